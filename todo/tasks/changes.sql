-- The changes of a list after a revision, in the order of their revisions. The inner limits let the two indexes on
-- (user_id, revision) be merged. On the last page the number of tasks and the checksum stand beside each change; they
-- come from an index alone, and in its order.
-- name: list_changes
WITH page AS (
    SELECT * FROM (
        (
            SELECT {columns}, NULL::timestamp AS deleted_at FROM tasks
            WHERE user_id = %(caller)s AND revision > %(since)s ORDER BY revision LIMIT %(rows)s
        )
        UNION ALL
        (
            SELECT {tombstone}, timezone('UTC', deleted_at) FROM trash
            WHERE user_id = %(caller)s AND revision > %(deleted_since)s ORDER BY revision LIMIT %(rows)s
        )
    ) AS merged
    ORDER BY revision LIMIT %(rows)s
)
SELECT page.*, list_revision, forgotten, count, checksum
FROM (
    SELECT revision AS list_revision, forgotten FROM task_lists
    WHERE user_id = %(caller)s AND revision <> %(known_revision)s
) AS list
LEFT JOIN page ON true
LEFT JOIN (
    SELECT count(*) AS count,
        encode(
            sha256(convert_to(coalesce(string_agg(concat(id, ':', revision, E'\n'), '' ORDER BY revision), ''), 'UTF8')),
            'hex'
        ) AS checksum
    FROM tasks WHERE user_id = %(caller)s AND (SELECT count(*) FROM page) < %(rows)s
) AS copy ON true
ORDER BY page.revision;
