-- The embedded server: who it is, and its first set-up, which may be repeated at any time.

-- name: identity
-- Which server answers: the cluster's own number, its folder and its version.
SELECT system_identifier::text AS system_identifier,
       current_setting('data_directory') AS data_directory,
       current_setting('server_version') AS version
FROM pg_control_system()

-- name: existing_roles
-- The roles of these names that are there already.
SELECT rolname FROM pg_roles WHERE rolname = ANY (%(names)s::text[])

-- name: create_role
-- A role that can do nothing yet.
CREATE ROLE {role} NOLOGIN

-- name: set_role
-- What a role may be, whatever it was before. The password arrives as a SCRAM verifier.
ALTER ROLE {role} LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS
    PASSWORD {password}

-- name: database_exists
-- Whether the database of this name is there.
SELECT EXISTS (SELECT FROM pg_database WHERE datname = %(name)s::text)

-- name: create_database
-- The one database; its owner makes the tables.
CREATE DATABASE {database} OWNER {owner}

-- name: close_database
-- PostgreSQL lets everybody connect to every database; here nobody may who is not named.
REVOKE ALL ON DATABASE {database} FROM PUBLIC

-- name: open_database
-- These roles may connect.
GRANT CONNECT ON DATABASE {database} TO {roles}

-- name: allow_temporary_tables
-- Bulk loads go through a temporary table.
GRANT TEMPORARY ON DATABASE {database} TO {roles}

-- name: create_vector
-- pgvector is not a trusted extension, so only the superuser can create it.
CREATE EXTENSION IF NOT EXISTS vector

-- name: update_vector
-- The version that came with the programs, after an upgrade of theirs.
ALTER EXTENSION vector UPDATE

-- name: vector_version
-- The installed version of pgvector.
SELECT extversion FROM pg_extension WHERE extname = 'vector'
