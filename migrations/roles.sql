-- The role that serves: its rights on the tables, and what PostgreSQL may log of it. docs/operate/database.md explains both.
-- psql runs this as the owner of the tables, after the first migration and after each that adds a table; a second run
-- changes nothing.
--
--     POSTGRES_SERVICE_PASSWORD=… psql --file migrations/roles.sql "$OWNER_URL"

\set ON_ERROR_STOP on
\set password ''
\getenv password POSTGRES_SERVICE_PASSWORD
SELECT :'password' = '' AS has_no_password \gset
\if :has_no_password
    DO $$ BEGIN RAISE 'POSTGRES_SERVICE_PASSWORD is not set'; END $$;
\endif

BEGIN;

SELECT 'CREATE ROLE todo_service' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'todo_service') \gexec
ALTER ROLE todo_service LOGIN PASSWORD :'password';

GRANT CONNECT ON DATABASE :"DBNAME" TO todo_service;
GRANT USAGE ON SCHEMA public TO todo_service;
-- What was granted by hand, or was needed by an older version, goes.
REVOKE ALL ON task_lists, tasks, trash, alembic_version FROM todo_service;
GRANT SELECT, INSERT, UPDATE ON task_lists TO todo_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON tasks, trash TO todo_service;
GRANT SELECT ON alembic_version TO todo_service;

-- Nobody else may create tables here. PostgreSQL 15 and later begin so, and a database that was made earlier does not.
SELECT 'REVOKE CREATE ON SCHEMA public FROM PUBLIC'
WHERE EXISTS (
    SELECT FROM pg_namespace, aclexplode(nspacl) AS granted
    WHERE nspname = 'public' AND grantee = 0 AND privilege_type = 'CREATE'
) \gexec

-- The settings that keep what users write out of PostgreSQL's log. A superuser may change them, and since PostgreSQL 15 a
-- role with the right to (GRANT SET ON PARAMETER); for all others `todo doctor` prints what a superuser has to run.
SELECT :SERVER_VERSION_NUM >= 150000 AS has_rights_on_settings \gset
\if :has_rights_on_settings
    SELECT format('ALTER ROLE todo_service SET %I = %L', name, value)
    FROM (
        VALUES ('log_min_error_statement', 'panic'), ('log_error_verbosity', 'terse'), ('log_statement', 'none'),
            ('log_min_duration_statement', '-1'), ('log_min_duration_sample', '-1'), ('log_transaction_sample_rate', '0')
    ) AS wanted (name, value)
    WHERE has_parameter_privilege(current_user, name, 'SET') \gexec
\endif

COMMIT;
