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

-- Moves a task back into the list, with its old id and a new revision.
-- name: restore_task
WITH locked AS (
    SELECT revision + 1 AS next_revision FROM task_lists WHERE user_id = %(caller)s FOR UPDATE
),
deleted AS (
    DELETE FROM trash USING locked
    WHERE user_id = %(caller)s AND id = %(task_id)s AND task IS NOT NULL AND revision < next_revision
        AND (%(among)s::bigint[] IS NULL OR (task ->> 'revision')::bigint = ANY (%(among)s::bigint[]))
        AND (task ->> 'revision')::bigint <> ALL (%(besides)s::bigint[])
    RETURNING task, next_revision
),
restored AS (
    INSERT INTO tasks ({names}, updated_at, revision)
    SELECT {names}, greatest(now(), updated_at + interval '1 microsecond'), next_revision
    FROM deleted, jsonb_populate_record(NULL::tasks, task) AS stored
    RETURNING {columns}
),
raised AS (
    UPDATE task_lists SET revision = restored.revision FROM restored
    WHERE task_lists.user_id = %(caller)s AND task_lists.revision < restored.revision
)
SELECT * FROM restored;

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
