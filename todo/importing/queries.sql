-- The rows of a file, and whether the caller knows each: has a task or a deleted one with the same key, or with the same
-- id and time of creation, which is how this service's own export comes back. Tasks with a revision above that of the
-- list are those that this import has just created.
-- name: judged
SELECT sent.*, last_revision,
    EXISTS (
        SELECT id FROM tasks
        WHERE user_id = %(caller)s AND idempotency_key = sent.idempotency_key AND revision <= last_revision
    ) OR EXISTS (
        SELECT id FROM trash WHERE user_id = %(caller)s AND task ->> 'idempotency_key' = sent.idempotency_key
    ) OR EXISTS (
        SELECT id FROM tasks
        WHERE user_id = %(caller)s AND id = sent.id AND created_at = sent.created_at AND revision <= last_revision
    ) OR EXISTS (
        SELECT id FROM trash
        WHERE user_id = %(caller)s AND id = sent.id AND (task ->> 'created_at')::timestamptz = sent.created_at
    ) AS is_known
FROM jsonb_populate_recordset(NULL::tasks, %(tasks)s::jsonb) WITH ORDINALITY AS sent,
    (SELECT coalesce(max(revision), 0) AS last_revision FROM task_lists WHERE user_id = %(caller)s) AS list;

-- name: find_known
SELECT coalesce(array_agg(ordinality) FILTER (WHERE is_known), '{}') AS known FROM ({judged}) AS judged;

-- Creates the tasks that are not known, each with a revision of its own. As with a key of a client, what is known is
-- looked up once the list is locked, and the list is raised last. A creation with the key of an import is one of another
-- body, so the digest is none that a body has.
-- name: create_tasks
{lock_list};
{lock_trash};
INSERT INTO tasks (
    user_id, {names}, created_at, updated_at, completed_at, revision, idempotency_key, idempotency_digest
)
SELECT %(caller)s, {names}, created_at, updated_at, completed_at,
    last_revision + row_number() OVER (ORDER BY ordinality), idempotency_key, ''::bytea
FROM ({judged}) AS judged
WHERE NOT is_known
ORDER BY ordinality;
WITH judged AS MATERIALIZED ({judged}),
raised AS (
    UPDATE task_lists SET revision = revision + (SELECT count(*) FROM judged WHERE NOT is_known)
    WHERE user_id = %(caller)s AND EXISTS (SELECT FROM judged WHERE NOT is_known)
    RETURNING revision
)
SELECT coalesce(array_agg(ordinality) FILTER (WHERE is_known), '{}') AS known,
    (SELECT revision FROM raised) AS list_revision
FROM judged;
