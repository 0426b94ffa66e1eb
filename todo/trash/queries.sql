-- The statements of deleted tasks. The trash keeps a deleted task as a JSON record of its row; where that record is
-- null, only the tombstone is left, which is for followers of the changes alone.

-- name: list_trash
SELECT {columns}, deleted_at, expires_at, deleted_in
FROM (
    SELECT stored.*, trash.revision AS deleted_in,
        timezone('UTC', trash.deleted_at) AS deleted_at, timezone('UTC', trash.expires_at) AS expires_at
    FROM trash, jsonb_populate_record(NULL::tasks, trash.task) AS stored
    WHERE trash.user_id = %(caller)s AND trash.task IS NOT NULL AND trash.revision < %(before)s
) AS deleted
ORDER BY deleted_in DESC LIMIT %(rows)s OFFSET %(offset)s;

-- The same with the number of deleted tasks beside each row. A page without tasks has one row, whose task is null.
-- name: list_and_count_trash
SELECT page.*, total
FROM (SELECT count(*) AS total FROM trash WHERE user_id = %(caller)s AND task IS NOT NULL) AS counted
LEFT JOIN ({page}) AS page ON true
ORDER BY deleted_in DESC;

-- Deleted tasks that are restored, or whose keys are used: purges do not wait for the list.
-- name: lock_tasks
SELECT id FROM trash
WHERE user_id = %(caller)s AND (id = ANY (%(ids)s::bigint[]) OR task ->> 'idempotency_key' = ANY (%(keys)s::text[]))
ORDER BY id FOR UPDATE;

-- Moves a task back into the list, with its old id and a new revision. As with a deletion that takes several statements.
-- The deleted task is locked too, because purges do not wait for the list.
-- prepared: restore_task
SELECT revision FROM task_lists WHERE user_id = %(caller)s FOR UPDATE;
SELECT id FROM trash WHERE user_id = %(caller)s AND id = %(task_id)s FOR UPDATE;
INSERT INTO tasks (user_id, {names}, updated_at, revision)
SELECT trash.user_id, {stored}, greatest(now(), stored.updated_at + interval '1 microsecond'), task_lists.revision + 1
FROM task_lists, trash, jsonb_populate_record(NULL::tasks, task) AS stored
WHERE task_lists.user_id = %(caller)s AND trash.user_id = %(caller)s AND trash.id = %(task_id)s AND task IS NOT NULL
    AND (%(among)s::bigint[] IS NULL OR stored.revision = ANY (%(among)s::bigint[]))
    AND stored.revision <> ALL (%(besides)s::bigint[]);
WITH restored AS (
    DELETE FROM trash USING tasks
    WHERE trash.user_id = %(caller)s AND tasks.user_id = %(caller)s
        AND trash.id = %(task_id)s AND tasks.id = %(task_id)s
    RETURNING tasks.*
),
raised AS (
    UPDATE task_lists SET revision = restored.revision FROM restored WHERE task_lists.user_id = %(caller)s
)
SELECT {columns} FROM restored;

-- name: discard_task
UPDATE trash SET task = NULL, expires_at = NULL
WHERE user_id = %(caller)s AND id = %(task_id)s AND task IS NOT NULL
    AND (%(among)s::bigint[] IS NULL OR (task ->> 'revision')::bigint = ANY (%(among)s::bigint[]))
    AND (task ->> 'revision')::bigint <> ALL (%(besides)s::bigint[])
RETURNING id;

-- name: get_deleted_task
SELECT {columns}
FROM (
    SELECT stored.* FROM trash, jsonb_populate_record(NULL::tasks, trash.task) AS stored
    WHERE trash.user_id = %(caller)s AND trash.id = %(task_id)s AND trash.task IS NOT NULL
) AS deleted;

-- name: empty_trash
UPDATE trash SET task = NULL, expires_at = NULL
WHERE user_id = %(caller)s AND task IS NOT NULL
RETURNING id;
