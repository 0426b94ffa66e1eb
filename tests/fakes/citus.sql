-- A stand-in for what the service calls of Citus, on a PostgreSQL without it: the same names, parameters, results and
-- books. No row is moved; `make test-citus` runs the same commands on a cluster.

CREATE TABLE pg_dist_node (
    nodeid int PRIMARY KEY, groupid int NOT NULL, nodename text DEFAULT '127.0.0.1', nodeport int DEFAULT 5432,
    noderole text DEFAULT 'primary', isactive boolean DEFAULT true, shouldhaveshards boolean DEFAULT true,
    -- What the stand-in knows besides: whether it answers, and its settings.
    answers boolean DEFAULT true, settings json DEFAULT '["logical", null, "0"]'
);
INSERT INTO pg_dist_node (nodeid, groupid, shouldhaveshards) VALUES (1, 0, false);
INSERT INTO pg_dist_node (nodeid, groupid, nodeport) VALUES (2, 1, 5433), (3, 2, 5434);
CREATE TABLE pg_dist_local_group AS SELECT 0 AS groupid;
CREATE TABLE pg_dist_partition (logicalrelid regclass PRIMARY KEY, partmethod "char", colocationid int);

-- How often an attempt finds others in its way, and which pieces a rebalancing would move.
CREATE SEQUENCE attempts;
CREATE TABLE busy AS SELECT 0 AS attempts, '55P03' AS sqlstate, 'canceling statement due to lock timeout' AS message;
CREATE TABLE moves (shardid bigint);

-- Each table is in two pieces, one on each worker.
CREATE TABLE pg_dist_placement AS SELECT 100 + piece AS shardid, piece AS groupid FROM generate_series(1, 2) AS piece;
CREATE FUNCTION get_shard_id_for_distribution_column(table_name regclass, distribution_value text) RETURNS bigint
LANGUAGE sql AS 'SELECT 101 + abs(hashtext(distribution_value)) % 2';

CREATE FUNCTION run_command_on_all_nodes(
    command text, parallel boolean DEFAULT true, give_warning_for_connection_errors boolean DEFAULT false,
    OUT nodeid int, OUT success boolean, OUT result text
) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
    node pg_dist_node;
BEGIN
    FOR node IN SELECT * FROM pg_dist_node ORDER BY pg_dist_node.nodeid LOOP
        nodeid := node.nodeid;
        success := node.answers;
        EXECUTE command INTO result;
        result := CASE WHEN node.answers THEN node.settings::text ELSE 'failed to connect' END;
        RETURN NEXT;
    END LOOP;
END
$$;

-- The table in two pieces, one on each worker.
CREATE FUNCTION run_command_on_shards(
    table_name regclass, command text, parallel boolean DEFAULT true,
    OUT shardid bigint, OUT success boolean, OUT result text
) RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
    FOR piece IN 1..2 LOOP
        shardid := piece;
        SELECT answers INTO success FROM pg_dist_node WHERE groupid = piece;
        EXECUTE format(
            command, format('(SELECT * FROM %s WHERE abs(hashtext(user_id)) %% 2 = %s) AS piece', table_name, piece - 1)
        ) INTO result;
        result := CASE WHEN success THEN result ELSE 'failed to connect' END;
        RETURN NEXT;
    END LOOP;
END
$$;

CREATE FUNCTION get_rebalance_table_shards_plan(relation regclass DEFAULT NULL) RETURNS SETOF moves
LANGUAGE sql AS 'SELECT * FROM moves';

-- The table gets another name there, and a new one without a comment takes its place.
CREATE FUNCTION citus_add_local_table_to_metadata(table_name regclass, cascade_via_foreign_keys boolean DEFAULT false)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO pg_dist_partition VALUES (table_name, 'n', 0);
    EXECUTE format('COMMENT ON TABLE %s IS NULL', table_name);
END
$$;

CREATE PROCEDURE citus_cleanup_orphaned_resources() LANGUAGE sql AS '';

CREATE FUNCTION create_distributed_table(
    table_name regclass, distribution_column text, distribution_type text DEFAULT 'hash',
    colocate_with text DEFAULT 'default', shard_count int DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF colocate_with <> 'default' AND NOT EXISTS (
        SELECT FROM pg_dist_partition WHERE logicalrelid = colocate_with::regclass AND partmethod = 'h'
    ) THEN
        RAISE 'relation % is not distributed', colocate_with;
    END IF;
    INSERT INTO pg_dist_partition VALUES (table_name, 'h', 1)
    ON CONFLICT (logicalrelid) DO UPDATE SET partmethod = 'h', colocationid = 1;
END
$$;

CREATE FUNCTION create_distributed_table_concurrently(
    table_name regclass, distribution_column text, distribution_type text DEFAULT 'hash',
    colocate_with text DEFAULT 'default', shard_count int DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('attempts') <= (SELECT attempts FROM busy) THEN
        RAISE '%', (SELECT message FROM busy) USING ERRCODE = (SELECT sqlstate FROM busy);
    END IF;
    PERFORM create_distributed_table(table_name, distribution_column, distribution_type, colocate_with, shard_count);
END
$$;
