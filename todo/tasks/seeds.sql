-- name: count_tasks
SELECT count(*) AS number FROM tasks WHERE user_id = %(caller)s;

-- name: insert_tasks
INSERT INTO tasks (user_id, {names}, completed_at, revision)
SELECT user_id, {names}, completed_at, revision FROM jsonb_populate_recordset(NULL::tasks, %(tasks)s::jsonb);

-- name: raise_revision
UPDATE task_lists SET revision = %(revision)s WHERE user_id = %(caller)s RETURNING revision;
