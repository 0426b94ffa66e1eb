-- The rows of a file, and the places of those that the caller knows: a task or a deleted one with the same key, or with
-- the same id and time of creation, which is how this service's own export comes back.
-- name: known
sent AS MATERIALIZED (
    SELECT * FROM jsonb_populate_recordset(NULL::tasks, %(tasks)s::jsonb) WITH ORDINALITY
),
known AS MATERIALIZED (
    SELECT ordinality FROM sent, tasks
    WHERE tasks.user_id = %(caller)s AND tasks.idempotency_key = sent.idempotency_key
        AND tasks.idempotency_key IS NOT NULL
    UNION
    SELECT ordinality FROM sent, trash
    WHERE trash.user_id = %(caller)s AND trash.task ->> 'idempotency_key' = sent.idempotency_key
        AND trash.task ->> 'idempotency_key' IS NOT NULL
    UNION
    SELECT ordinality FROM sent, tasks
    WHERE tasks.user_id = %(caller)s AND tasks.id = sent.id AND tasks.created_at = sent.created_at
    UNION
    SELECT ordinality FROM sent, trash
    WHERE trash.user_id = %(caller)s AND trash.id = sent.id
        AND (trash.task ->> 'created_at')::timestamptz = sent.created_at
);

-- name: find_known
WITH {known}
SELECT coalesce(array_agg(ordinality), '{}') AS known FROM known;

-- Creates the tasks that are not known, each with a revision of its own. As with a key of a client, what is known is
-- looked up once the list is locked. A creation with the key of an import is one of another body, so the digest is none
-- that a body has.
-- name: create_tasks
{lock_list};
WITH {known},
new AS MATERIALIZED (
    SELECT sent.*, row_number() OVER (ORDER BY ordinality) AS number FROM sent
    WHERE NOT EXISTS (SELECT FROM known WHERE known.ordinality = sent.ordinality)
),
raised AS (
    UPDATE task_lists SET revision = revision + (SELECT count(*) FROM new)
    WHERE user_id = %(caller)s AND EXISTS (SELECT FROM new)
    RETURNING revision - (SELECT count(*) FROM new) AS last_revision
),
created AS (
    INSERT INTO tasks (
        user_id, {names}, created_at, updated_at, completed_at, revision, idempotency_key, idempotency_digest
    )
    SELECT %(caller)s, {names}, created_at, updated_at, completed_at, last_revision + number, idempotency_key, ''::bytea
    FROM new, raised ORDER BY number
)
SELECT coalesce(array_agg(ordinality), '{}') AS known,
    (SELECT last_revision + (SELECT count(*) FROM new) FROM raised) AS list_revision
FROM known;
