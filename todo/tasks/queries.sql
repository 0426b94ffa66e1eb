-- The statements of single tasks. Every one starts from the caller's id: a task of another user is simply not found.
-- Every write locks the caller's row of `task_lists` before anything else, so all writers of one user take the same
-- order and those of different users never wait for each other. Every table in a statement is restricted to the
-- caller's rows by name, so that each statement also runs where users are distributed over machines.

-- prepared: get_task
SELECT {columns} FROM tasks WHERE user_id = %(caller)s AND id = %(task_id)s;

-- prepared: create_task
WITH list AS (
    INSERT INTO task_lists (user_id, revision) VALUES (%(caller)s, 1)
    ON CONFLICT (user_id) DO UPDATE SET revision = task_lists.revision + 1
    RETURNING revision AS next_revision
)
INSERT INTO tasks (user_id, {names}, completed_at, revision)
SELECT %(caller)s, {values}, CASE WHEN %(completed)s THEN now() END, next_revision FROM list
RETURNING {columns};

-- Creates the caller's list if there is none, and locks it in any case.
-- name: lock_list
INSERT INTO task_lists (user_id, revision) VALUES (%(caller)s, 0)
ON CONFLICT (user_id) DO UPDATE SET revision = task_lists.revision
RETURNING revision;

-- Creates a task unless its key did so before, which is looked up once the list is locked. That takes a statement of
-- its own: one that began before it waited would not see what was committed meanwhile, and of two creations at once
-- with one key, or of one beside a deletion, the second would find nothing. Deleted tasks with the key are locked too,
-- because purges do not wait for the list. The list is raised last, so that a task with a revision above its own is new.
-- prepared: create_task_once
{lock_list};
SELECT id FROM trash WHERE user_id = %(caller)s AND task ->> 'idempotency_key' = %(key)s FOR UPDATE;
INSERT INTO tasks (user_id, {names}, completed_at, revision, idempotency_key, idempotency_digest)
SELECT user_id, {values}, CASE WHEN %(completed)s THEN now() END, revision + 1, %(key)s, %(digest)s
FROM task_lists
WHERE user_id = %(caller)s
    AND NOT EXISTS (SELECT id FROM tasks WHERE user_id = %(caller)s AND idempotency_key = %(key)s)
    AND NOT EXISTS (SELECT id FROM trash WHERE user_id = %(caller)s AND task ->> 'idempotency_key' = %(key)s);
WITH list AS (
    SELECT revision AS last_revision FROM task_lists WHERE user_id = %(caller)s
),
live AS (
    SELECT {columns}, NULL::timestamp AS deleted_at, idempotency_digest, revision > last_revision AS created
    FROM tasks, list WHERE user_id = %(caller)s AND idempotency_key = %(key)s
),
deleted AS (
    SELECT {columns}, deleted_at, idempotency_digest, false AS created
    FROM (
        SELECT stored.*, timezone('UTC', trash.deleted_at) AS deleted_at
        FROM trash, jsonb_populate_record(NULL::tasks, trash.task) AS stored
        WHERE trash.user_id = %(caller)s AND trash.task ->> 'idempotency_key' = %(key)s
    ) AS stored
),
raised AS (
    UPDATE task_lists SET revision = live.revision FROM live WHERE task_lists.user_id = %(caller)s AND created
)
SELECT * FROM live UNION ALL SELECT * FROM deleted;

-- Writes to a task in its newest state. Where nothing differs it keeps its revision and its time, and it does not matter
-- in which revisions the client is ready to change it: what the client wants is so already, perhaps by an earlier request
-- of its own whose response was lost (RFC 9110, section 13.1.1). A change always moves the time forward, even when the
-- clock was set back or two changes share a microsecond. A task that stays completed keeps the time of its completion.
-- That the revision is below the next one is always true, and makes PostgreSQL lock the list first. The time comes with
-- the lock, and is moved without a time zone: Citus refuses what is not IMMUTABLE beside columns in an UPDATE.
-- prepared: update_task
WITH locked AS (
    SELECT revision + 1 AS next_revision, now() AS moment FROM task_lists WHERE user_id = %(caller)s FOR UPDATE
),
changed AS (
    UPDATE tasks SET
        {assignments},
        completed_at = CASE WHEN {completed} THEN coalesce(
            CASE WHEN completed THEN coalesce(completed_at, updated_at) END,
            {moved_at}
        ) END,
        revision = CASE WHEN {differs} THEN next_revision ELSE revision END,
        updated_at = CASE WHEN {differs} THEN {moved_at} ELSE updated_at END
    FROM locked
    WHERE user_id = %(caller)s AND id = %(task_id)s AND revision < next_revision
        AND (%(among)s::bigint[] IS NULL OR revision = ANY (%(among)s::bigint[]) OR NOT ({differs}))
        AND revision <> ALL (%(besides)s::bigint[])
    RETURNING {columns}
),
raised AS (
    UPDATE task_lists SET revision = changed.revision FROM changed
    WHERE task_lists.user_id = %(caller)s AND task_lists.revision < changed.revision
)
SELECT * FROM changed;

-- Moves a task into the trash with all that it holds or, where the trash keeps nothing, leaves its tombstone alone.
-- That takes several statements: on Citus, rows that a CTE hands to an INSERT are copied to every machine.
-- prepared: delete_task
SELECT revision FROM task_lists WHERE user_id = %(caller)s FOR UPDATE;
INSERT INTO trash (user_id, id, revision, expires_at, task)
SELECT tasks.user_id, tasks.id, task_lists.revision + 1,
    CASE WHEN %(days)s > 0 THEN now() + %(days)s * interval '1 day' END,
    CASE WHEN %(days)s > 0 THEN to_jsonb(tasks) END
FROM tasks, task_lists
WHERE tasks.user_id = %(caller)s AND task_lists.user_id = %(caller)s AND tasks.id = %(task_id)s
    AND (%(among)s::bigint[] IS NULL OR tasks.revision = ANY (%(among)s::bigint[]))
    AND tasks.revision <> ALL (%(besides)s::bigint[]);
WITH deleted AS (
    DELETE FROM tasks USING trash
    WHERE tasks.user_id = %(caller)s AND trash.user_id = %(caller)s
        AND tasks.id = %(task_id)s AND trash.id = %(task_id)s
    RETURNING tasks.*, trash.revision AS list_revision, trash.deleted_at, trash.expires_at
),
raised AS (
    UPDATE task_lists SET revision = list_revision FROM deleted WHERE task_lists.user_id = %(caller)s
)
SELECT {columns}, list_revision, timezone('UTC', deleted_at) AS deleted_at, timezone('UTC', expires_at) AS expires_at
FROM deleted;
