-- Citus: what it tells of its nodes and tables, and how tables are distributed. Any other PostgreSQL knows the first
-- statement alone.

-- name: find_citus
SELECT to_regclass('pg_dist_partition') IS NOT NULL AS is_there;

-- The nodes of the cluster, the coordinator first. A node that is away does not answer the command.
-- name: list_nodes
SELECT nodename || ':' || nodeport AS name, groupid = 0 AS is_coordinator, groupid = here AS is_here,
    isactive AND coalesce(success, false) AS is_alive, shouldhaveshards AS has_shards, result AS answer
FROM pg_dist_node
CROSS JOIN (SELECT groupid AS here FROM pg_dist_local_group) AS local
LEFT JOIN run_command_on_all_nodes(%(command)s, give_warning_for_connection_errors => true) USING (nodeid)
WHERE noderole = 'primary'
ORDER BY groupid, nodename, nodeport;

-- What of a node decides whether a table can be distributed while others write. Newer minor releases of PostgreSQL let
-- only those libraries decode its log that the second setting names. The third one is that of the role there.
-- name: get_settings
SELECT json_build_array(
    current_setting('wal_level'), current_setting('output_plugin_libraries', true), current_setting('statement_timeout')
);

-- What Citus knows of the tables. One that is not in the result is an ordinary table.
-- name: list_tables
SELECT name, CASE WHEN partmethod = 'h' THEN 'distributed' ELSE 'local' END AS kind, colocationid AS colocation
FROM unnest(%(tables)s::text[]) WITH ORDINALITY AS wanted (name, place)
JOIN pg_dist_partition ON logicalrelid = to_regclass(name)
ORDER BY place;

-- name: count_moves
SELECT count(*) AS number FROM get_rebalance_table_shards_plan();

-- Requests take locks in this order too.
-- name: lock_tables
LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE;

-- `todo db restored` leaves a trigger on the lists, which changes its own row alone.
-- name: allow_triggers
SET citus.enable_unsafe_triggers = on;

-- Citus forgets where the sequence of an identity column is when it learns of the table.
-- name: get_last_id
SELECT pg_sequence_last_value(pg_get_serial_sequence('tasks', 'id')::regclass) AS last;

-- name: set_last_id
SELECT setval(pg_get_serial_sequence('tasks', 'id'), %(last)s);

-- name: make_known
SELECT citus_add_local_table_to_metadata(%(table)s);

-- Says until the end that the tables are being distributed, whatever interrupts that.
-- name: begin
COMMENT ON TABLE task_lists IS 'is being distributed';

-- name: is_begun
SELECT coalesce(obj_description(to_regclass('task_lists'), 'pg_class') = 'is being distributed', false) AS is_begun;

-- name: end
COMMENT ON TABLE task_lists IS NULL;

-- name: clean_up
CALL citus_cleanup_orphaned_resources();

-- name: distribute_first
SELECT create_distributed_table_concurrently(%(table)s, 'user_id', shard_count => %(shards)s);

-- name: distribute_other
SELECT create_distributed_table_concurrently(%(table)s, 'user_id', colocate_with => %(first)s);

-- A table that a migration has created, and that has no rows yet.
-- name: distribute_new
SELECT create_distributed_table(%(table)s, 'user_id', colocate_with => %(first)s);
