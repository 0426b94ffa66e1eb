-- The digest of the secret in the address of a user's calendar. It is no task, so no revision is raised.
-- name: set_digest
INSERT INTO task_lists (user_id, revision, feed_digest) VALUES (%(caller)s, 0, %(digest)s)
ON CONFLICT (user_id) DO UPDATE SET feed_digest = excluded.feed_digest
RETURNING user_id;

-- name: clear_digest
UPDATE task_lists SET feed_digest = NULL WHERE user_id = %(caller)s AND feed_digest IS NOT NULL RETURNING user_id;

-- name: is_active
SELECT EXISTS (SELECT FROM task_lists WHERE user_id = %(caller)s AND feed_digest IS NOT NULL) AS active;

-- The due tasks of the owner of an address, beside the revision of the list: without the right digest there is no row,
-- and at the known revision, or without any due task, one whose task is null.
-- name: read_feed
SELECT due.*, list.revision AS list_revision
FROM task_lists AS list
LEFT JOIN LATERAL (
    SELECT {columns} FROM tasks
    WHERE user_id = %(caller)s AND due_at >= %(begin)s AND due_at < %(end)s
        AND (NOT completed OR (
            %(with_completed)s AND coalesce(completed_at, updated_at) >= %(completed_since)s
        ))
    ORDER BY due_at, id LIMIT %(rows)s
) AS due ON list.revision <> %(known_revision)s
WHERE list.user_id = %(caller)s AND list.feed_digest = %(digest)s
ORDER BY due.due_date, due.id;
