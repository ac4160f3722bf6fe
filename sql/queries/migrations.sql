-- What the migration runner asks and records.

-- name: lock
-- One migration at a time; the lock goes with the connection.
SELECT pg_advisory_lock(hashtextextended('rag_assets migrations', 0));

-- name: has_schema
-- Whether the first migration has been here.
SELECT to_regclass('rag_assets.schema_migrations') IS NOT NULL AS present;

-- name: applied
-- What has been applied, with its checksum.
SELECT version, checksum FROM rag_assets.schema_migrations ORDER BY version;

-- name: record
-- Written in the transaction of the migration itself.
INSERT INTO rag_assets.schema_migrations (version, name, checksum)
VALUES (%(version)s, %(name)s, %(checksum)s);

-- name: pgvector_version
-- The extension as it is in this database.
SELECT extversion FROM pg_extension WHERE extname = 'vector';

-- name: who
-- Row-level security does nothing for a superuser.
SELECT rolsuper OR rolbypassrls AS bypasses FROM pg_roles WHERE rolname = current_user;

-- name: role_exists
-- Roles belong to the server, not to one database.
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %(role)s) AS present;

-- name: owner_writes
-- The owner must not inherit the writer's rights: its functions would see every row.
SELECT pg_has_role(current_user, 'rag_assets_writer', 'USAGE') AS inherits;

-- name: is_member
-- A role counts as a member of itself.
SELECT pg_has_role(%(login)s, %(group)s, 'MEMBER') AS member;

-- name: create_group
-- Grants and policies name the group; logins are its members.
CREATE ROLE {group} NOLOGIN;

-- name: create_login
-- The login that the URL names.
CREATE ROLE {login} LOGIN PASSWORD {password};

-- name: join_group
-- What the group may, the login may.
GRANT {group} TO {login};
