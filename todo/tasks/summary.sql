-- An all-day task is due on its date wherever the caller is, so it is overdue once that date is over there.
-- A tag is counted whatever its case, and named by the first of its spellings in the order of code points.
-- name: count_tasks
SELECT count(*) AS total,
    count(*) FILTER (WHERE NOT completed) AS pending,
    count(*) FILTER (WHERE completed) AS completed,
    count(*) FILTER (WHERE NOT completed AND due_at < CASE WHEN due_all_day THEN %(day)s ELSE %(now)s END) AS overdue,
    count(*) FILTER (
        WHERE NOT completed AND CASE WHEN due_all_day THEN due_at = %(day)s
                                     ELSE due_at >= %(begin)s AND due_at < %(end)s END
    ) AS due_today,
    count(*) FILTER (WHERE priority = 'high') AS high,
    count(*) FILTER (WHERE priority = 'medium') AS medium,
    count(*) FILTER (WHERE priority = 'low') AS low,
    count(*) FILTER (WHERE priority IS NULL) AS none,
    (
        SELECT json_agg(json_build_object('tag', tag, 'count', uses) ORDER BY uses DESC, key COLLATE "C")
        FROM (
            SELECT key, min(tag COLLATE "C") AS tag, count(*) AS uses
            FROM (
                SELECT unnest(tags) AS tag, unnest(coalesce(tag_keys, tags)) AS key
                FROM tasks WHERE user_id = %(caller)s
            ) AS used
            GROUP BY key ORDER BY uses DESC, key COLLATE "C" LIMIT {tags_max}
        ) AS top
    ) AS by_tag
FROM tasks WHERE user_id = %(caller)s;
