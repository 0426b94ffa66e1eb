-- One statement for all users that somebody waits for, in a process; only while somebody waits.
-- name: list_changed
SELECT task_lists.user_id, task_lists.revision
FROM unnest(%(users)s::text[], %(revisions)s::bigint[]) AS known (user_id, revision)
JOIN task_lists USING (user_id)
WHERE task_lists.revision <> known.revision;

-- name: get_revision
SELECT revision FROM task_lists WHERE user_id = %(caller)s;
