-- One pass over the trash of all users, at the start. The rest is done user by user, so that it also runs where users
-- are distributed over machines.
-- name: expired
SELECT user_id, count(*) FILTER (WHERE task IS NOT NULL) + count(*) FILTER (WHERE is_old) AS number
FROM (
    SELECT user_id, task, deleted_at <= now() - make_interval(days => {days}) AS is_old
    FROM {trash} WHERE expires_at <= now() OR task IS NULL
) AS expired
WHERE task IS NOT NULL OR is_old
GROUP BY user_id ORDER BY user_id;

-- The same on Citus, piece by piece: a machine that is away hides its own users alone. The command has the place of a
-- piece in it.
-- name: list_expired_by_piece
SELECT success AS is_found, user_id, number
FROM run_command_on_shards('trash', %(command)s)
LEFT JOIN LATERAL json_to_recordset(CASE WHEN success THEN result::json END) AS expired (user_id text, number bigint) ON true
ORDER BY user_id;

-- name: expired_of_piece
SELECT coalesce(json_agg(expired), '[]') FROM ({expired}) AS expired;

-- Rows that another purge has begun with are left to it.
-- name: purge_tasks
UPDATE trash SET task = NULL, expires_at = NULL
WHERE user_id = %(user)s AND id = ANY (ARRAY(
    SELECT id FROM trash WHERE user_id = %(user)s AND expires_at <= now() LIMIT %(batch)s FOR UPDATE SKIP LOCKED))
RETURNING id;

-- Tombstones are removed together with the note that they are gone, or a follower of the changes could miss a deletion
-- without learning of it.
-- name: purge_tombstones
WITH locked AS (SELECT user_id FROM task_lists WHERE user_id = %(user)s FOR UPDATE),
old AS (
    SELECT trash.id FROM trash, locked
    WHERE trash.user_id = %(user)s AND task IS NULL AND deleted_at <= now() - make_interval(days => %(days)s)
    LIMIT %(batch)s
),
gone AS (
    DELETE FROM trash WHERE user_id = %(user)s AND task IS NULL AND id IN (SELECT id FROM old)
    RETURNING id, revision
),
noted AS (
    UPDATE task_lists SET forgotten = greatest(forgotten, (SELECT max(revision) FROM gone))
    WHERE user_id = %(user)s AND EXISTS (SELECT FROM gone)
)
SELECT id FROM gone;
