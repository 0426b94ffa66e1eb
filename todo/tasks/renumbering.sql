-- New numbers after the restore of a backup: a restored database would give out revisions and ids a second time.

-- A number above all that clients may have seen: the time in microseconds. No list and no sequence comes from the number
-- of an earlier run to that of a later one by itself, because nothing is written a million times a second. Where the clock
-- was set back, the lists decide.
-- name: choose_number
SELECT count(*) AS lists,
    greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, max(revision) + 1) AS number
FROM task_lists;

-- Citus takes triggers for unsafe, as they may write rows of other machines; this one changes its own row alone. And a
-- function follows a trigger in one transaction only where that goes from shard to shard. To any other PostgreSQL these
-- are settings without a meaning.
-- name: allow_trigger
SET LOCAL citus.enable_unsafe_triggers = on;
SET LOCAL citus.multi_shard_modify_mode = 'sequential';

-- New tasks have ids after the number. New lists have revisions after it: they are those of users of whom the backup knows
-- nothing, and what their clients kept is out of date as well.
-- name: drop_trigger
DO $do$
DECLARE
    earlier regprocedure := (
        SELECT tgfoid FROM pg_trigger WHERE tgrelid = 'task_lists'::regclass AND tgname = 'begin_after_restore'
    );
BEGIN
    IF earlier IS NOT NULL THEN
        DROP TRIGGER begin_after_restore ON task_lists;
        EXECUTE format('DROP FUNCTION %%s', earlier);
    END IF;
END
$do$;

-- The number in its name keeps it from taking the place of a function of another application.
-- name: create_function
CREATE FUNCTION begin_after_%(number)s() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision := NEW.revision + %(number)s;
    NEW.forgotten := %(number)s;
    RETURN NEW;
END
$$;

-- name: create_trigger
CREATE TRIGGER begin_after_restore BEFORE INSERT ON task_lists
FOR EACH ROW EXECUTE FUNCTION begin_after_%(number)s();

-- name: begin_ids
SELECT setval(pg_get_serial_sequence('tasks', 'id'), %(number)s);

-- The user at whom the next batch ends, if there is one.
-- name: find_last
SELECT max(user_id) AS last
FROM (SELECT user_id FROM task_lists WHERE user_id > %(after)s ORDER BY user_id LIMIT %(batch)s) AS batch;

-- The next revision of each list, at which no client has the tasks and all cursors from before are too old.
-- name: expire_cursors
UPDATE task_lists SET revision = revision + 1, forgotten = revision + 1
WHERE user_id > %(after)s AND user_id <= %(last)s
RETURNING user_id;

-- Lists that came after the trigger are above the number already. Afterwards all cursors from before are too old.
-- name: raise_lists
UPDATE task_lists SET revision = %(number)s, forgotten = %(number)s
WHERE user_id > %(after)s AND user_id <= %(last)s AND revision < %(number)s
RETURNING user_id;
