-- Everything that is kept of a user.

-- The first statement of an export reads all tables. Nothing here is recursive; that word lets Citus refuse it while they
-- are being distributed, when several machines would not show one moment.
-- name: get_list
WITH RECURSIVE counted AS MATERIALIZED (
    SELECT (SELECT count(*) FROM tasks WHERE user_id = %(caller)s) AS tasks,
        (SELECT count(*) FROM trash WHERE user_id = %(caller)s) AS deleted
)
SELECT user_id, revision, timezone('UTC', erased_at) AS erased_at, tasks, deleted
FROM task_lists, counted WHERE user_id = %(caller)s;

-- name: list_tasks
SELECT {columns}, idempotency_key FROM tasks WHERE user_id = %(caller)s ORDER BY id;

-- name: list_deleted
SELECT {columns}, idempotency_key, deleted_id, deleted_in, deleted_at, expires_at
FROM (
    SELECT stored.*, trash.id AS deleted_id, trash.revision AS deleted_in,
        timezone('UTC', trash.deleted_at) AS deleted_at, timezone('UTC', trash.expires_at) AS expires_at
    FROM trash LEFT JOIN jsonb_populate_record(NULL::tasks, trash.task) AS stored ON true
    WHERE trash.user_id = %(caller)s
) AS deleted
ORDER BY deleted_in;

-- name: count
SELECT (SELECT count(*) FROM tasks WHERE user_id = %(caller)s) AS tasks,
    (SELECT count(*) FROM trash WHERE user_id = %(caller)s) AS deleted;

-- Followers of the changes begin again: what is erased leaves no tombstones.
-- name: erase_list
UPDATE task_lists SET revision = revision + 1, forgotten = revision + 1, erased_at = now(), feed_digest = NULL
WHERE user_id = %(caller)s
RETURNING revision;

-- name: erase_tasks
DELETE FROM tasks WHERE user_id = %(caller)s;

-- name: erase_trash
DELETE FROM trash WHERE user_id = %(caller)s;
