-- The pages of a list. The revision of the caller's list stands beside each task; when it is the known one there is no
-- row, and no page is read. A page without tasks has one row, whose task is null. A user without a list is at revision 0,
-- and not at one that is known from before a restore.

-- A page in the order of the key. The columns that clients see are computed for the tasks of the page alone.
-- prepared: page_by_id
SELECT {columns}, list_revision
FROM (
    SELECT coalesce(max(revision), 0) AS list_revision FROM task_lists
    WHERE user_id = %(caller)s HAVING coalesce(max(revision), 0) <> %(known_revision)s
) AS list
LEFT JOIN (
    SELECT * FROM tasks WHERE {conditions} ORDER BY {order} LIMIT %(rows)s OFFSET %(offset)s
) AS page ON true
ORDER BY {order};

-- A page in any other order. All tasks that match are read for their keys alone; those of the page are then read whole.
-- name: page_by_keys
WITH page AS (
    SELECT * FROM (SELECT id AS page_id, {keys} FROM tasks WHERE {conditions}) AS matching
    WHERE {beyond} ORDER BY {order} LIMIT %(rows)s OFFSET %(offset)s
)
SELECT {columns}, {key_names}, list_revision
FROM (
    SELECT coalesce(max(revision), 0) AS list_revision FROM task_lists
    WHERE user_id = %(caller)s HAVING coalesce(max(revision), 0) <> %(known_revision)s
) AS list
LEFT JOIN (page JOIN tasks ON user_id = %(caller)s AND id = page_id) ON true
ORDER BY {order};

-- The same with the number of tasks on all pages, for which those that match are read once.
-- name: counted_page
WITH matching AS (
    SELECT id AS page_id, {keys} FROM tasks WHERE {conditions}
),
page AS (
    SELECT * FROM matching WHERE {beyond} ORDER BY {order} LIMIT %(rows)s OFFSET %(offset)s
),
counted AS (
    SELECT count(*) AS total FROM matching
)
SELECT {columns}, {key_names}, total, list_revision
FROM (
    SELECT coalesce(max(revision), 0) AS list_revision FROM task_lists
    WHERE user_id = %(caller)s HAVING coalesce(max(revision), 0) <> %(known_revision)s
) AS list
LEFT JOIN counted ON true
LEFT JOIN (page JOIN tasks ON user_id = %(caller)s AND id = page_id) ON true
ORDER BY {order};
