-- A batch is one message: the lock on the list, then up to three insertions, then the rest and the result. Each statement
-- reads the operations anew from the same parameter and judges them again, because on Citus rows that a CTE hands to an
-- INSERT are copied to every machine. All of them judge alike: what the batch writes has revisions above that of the list,
-- which is raised last, and rows above it are left out of sight. So each statement sees the list as it was before.

-- What becomes of each operation, and the revision that it leads to if it writes. The operations come as
-- [{"number", "op", "id", "key", "digest", "revisions", "members"}], their members as columns of `tasks`. If there are
-- none, one row tells the revision alone. The limits keep PostgreSQL from reading all tasks of the user. A row of `tasks`
-- is built from its columns, because on Citus that of a table's piece is of a type of its own; and no CASE compares a
-- value, because Citus writes that wrong.
-- name: verdicts
SELECT judged.*, last_revision + count(*) FILTER (WHERE is_write) OVER (ORDER BY number) AS next_revision
FROM (
    SELECT *,
        outcome IN ('created', 'changed', 'deleted', 'restored')
            AND NOT (%(atomic)s AND bool_or(outcome IN ('absent', 'stale', 'reused')) OVER ()) AS is_write
    FROM (
        SELECT number, op, key, digest, last_revision, target, live, stored, written, gone_revision, gone_at,
            greatest(now(), coalesce((live).updated_at, stored.updated_at) + interval '1 microsecond') AS moved_at,
            CASE
                WHEN op = 'create' THEN CASE
                    WHEN target IS NULL THEN 'created'
                    WHEN digest = coalesce((live).idempotency_digest, stored.idempotency_digest) THEN 'replayed'
                    ELSE 'reused'
                END
                WHEN op = 'update' THEN CASE
                    WHEN (live).id IS NULL THEN 'absent'
                    WHEN ({live}) IS NOT DISTINCT FROM ({written}) THEN 'unchanged'
                    WHEN revisions IS NULL OR (live).revision = ANY (revisions) THEN 'changed'
                    ELSE 'stale'
                END
                WHEN op = 'delete' THEN CASE
                    WHEN (live).id IS NULL THEN CASE WHEN gone_revision IS NULL THEN 'absent' ELSE 'already' END
                    WHEN revisions IS NULL OR (live).revision = ANY (revisions) THEN 'deleted'
                    ELSE 'stale'
                END
                ELSE CASE
                    WHEN (live).id IS NOT NULL THEN 'unchanged'
                    WHEN stored.id IS NOT NULL THEN 'restored'
                    ELSE 'absent'
                END
            END AS outcome
        FROM (SELECT revision AS last_revision FROM task_lists WHERE user_id = %(caller)s) AS list
        LEFT JOIN jsonb_to_recordset(%(operations)s::jsonb) AS operation (
            number integer, op text, id bigint, key text, digest bytea, revisions bigint[], members jsonb
        ) ON true
        LEFT JOIN LATERAL (
            SELECT id FROM tasks
            WHERE user_id = %(caller)s AND idempotency_key = operation.key AND revision <= last_revision
            UNION ALL
            SELECT id FROM trash
            WHERE user_id = %(caller)s AND task ->> 'idempotency_key' = operation.key AND revision <= last_revision
            LIMIT 1
        ) AS named ON true
        CROSS JOIN LATERAL (SELECT coalesce(operation.id, named.id) AS target) AS wanted
        LEFT JOIN LATERAL (
            SELECT ROW({row})::tasks AS live FROM tasks
            WHERE user_id = %(caller)s AND id = target AND revision <= last_revision LIMIT 1
        ) AS found ON true
        LEFT JOIN LATERAL (
            SELECT revision AS gone_revision, deleted_at AS gone_at, task AS gone_task FROM trash
            WHERE user_id = %(caller)s AND id = target AND revision <= last_revision LIMIT 1
        ) AS gone ON true
        CROSS JOIN LATERAL jsonb_populate_record(NULL::tasks, gone_task) AS stored
        CROSS JOIN LATERAL jsonb_populate_record(live, members) AS written
    ) AS outcomes
) AS judged;

-- name: insert_created
INSERT INTO tasks (user_id, {names}, completed_at, revision, idempotency_key, idempotency_digest)
SELECT %(caller)s, {created}, CASE WHEN (written).completed THEN now() END, next_revision, key, digest
FROM ({verdicts}) AS verdict
WHERE op = 'create' AND is_write
ORDER BY number;

-- name: insert_restored
INSERT INTO tasks (user_id, {kept_names}, updated_at, revision)
SELECT %(caller)s, {restored}, moved_at, next_revision
FROM ({verdicts}) AS verdict
WHERE op = 'restore' AND is_write;

-- name: insert_deleted
INSERT INTO trash (user_id, id, revision, expires_at, task)
SELECT %(caller)s, target, next_revision,
    CASE WHEN %(days)s > 0 THEN now() + %(days)s * interval '1 day' END,
    CASE WHEN %(days)s > 0 THEN to_jsonb(live) END
FROM ({verdicts}) AS verdict
WHERE op = 'delete' AND is_write;

-- Changes, removals and the result of each operation, with its task: as it is now where the batch wrote it, else as it
-- was before.
-- name: finish
WITH verdict AS MATERIALIZED ({verdicts}),
changed AS (
    UPDATE tasks SET
        {assignments},
        completed_at = CASE WHEN (written).completed THEN coalesce(
            CASE WHEN tasks.completed THEN coalesce(tasks.completed_at, tasks.updated_at) END, moved_at
        ) END,
        revision = next_revision,
        updated_at = moved_at
    FROM verdict
    WHERE user_id = %(caller)s AND id = target AND op = 'update' AND is_write
    RETURNING tasks.*
),
removed AS (
    DELETE FROM tasks USING verdict
    WHERE user_id = %(caller)s AND id = target AND op = 'delete' AND is_write
),
freed AS (
    DELETE FROM trash USING verdict
    WHERE user_id = %(caller)s AND id = target AND op = 'restore' AND is_write
),
raised AS (
    UPDATE task_lists SET revision = newest.revision
    FROM (SELECT max(next_revision) AS revision FROM verdict) AS newest
    WHERE task_lists.user_id = %(caller)s AND task_lists.revision < newest.revision
)
SELECT {columns}, number, outcome, target, last_revision, list_revision, deleted_in, timezone('UTC', gone_at) AS deleted_at
FROM (
    SELECT number, outcome, target, last_revision, max(next_revision) OVER () AS list_revision,
        CASE WHEN outcome = 'deleted' THEN next_revision WHEN outcome <> 'restored' THEN gone_revision END AS deleted_in,
        CASE WHEN outcome = 'deleted' THEN now() ELSE gone_at END AS gone_at, shown.*
    FROM verdict
    LEFT JOIN LATERAL (
        SELECT * FROM changed WHERE is_write AND revision = next_revision
        UNION ALL
        SELECT * FROM tasks WHERE is_write AND user_id = %(caller)s AND revision = next_revision
        UNION ALL
        SELECT (live).* WHERE (NOT is_write OR op = 'delete') AND (live).id IS NOT NULL
        UNION ALL
        SELECT (stored).* WHERE NOT is_write AND (stored).id IS NOT NULL
    ) AS shown ON true
) AS results
ORDER BY number;
