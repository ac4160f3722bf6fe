-- Around pg_dump and psql.

-- name: before_restore
-- In the transaction of the restore: what was there goes, all of it or nothing.
DROP SCHEMA IF EXISTS rag_assets CASCADE;

-- name: corpora_there
-- What a restore would replace.
SELECT corpus FROM rag_assets.corpora ORDER BY corpus;
