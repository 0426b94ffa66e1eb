-- The changes of a list after a revision, in the order of their revisions. The inner limits let the two indexes on
-- (user_id, revision) be merged. On the last page the number of tasks and the checksum stand beside each change; they
-- come from an index alone, and in its order. When the list is at the known revision there is no row; a user without a
-- list is at revision 0.
-- Nothing here is recursive: PostgreSQL plans it the same without that word. Citus passes it on to the one machine that
-- has all tables of the user, and refuses it where it would have to put it together from several, as it does while the
-- tables are being distributed. Then it is read without that word, behind the lock.
-- name: list_changes
WITH {recursive} page AS (
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
    SELECT coalesce(max(revision), 0) AS list_revision, coalesce(max(forgotten), 0) AS forgotten FROM task_lists
    WHERE user_id = %(caller)s HAVING coalesce(max(revision), 0) <> %(known_revision)s
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

-- Waits for the write that is at work on the list, and keeps the next one out. The row of the list is on the machine on
-- which a write of several machines takes effect last, so afterwards all of it is visible on each of them.
-- name: lock_list
SELECT revision FROM task_lists WHERE user_id = %(caller)s FOR SHARE;
