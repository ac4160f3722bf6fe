-- Around pg_dump and psql.

-- name: before_restore
-- In the transaction of the restore: what was there goes, all of it or nothing.
DROP SCHEMA IF EXISTS rag_assets CASCADE;

-- name: corpora_there
-- What a restore would replace.
SELECT corpus FROM rag_assets.corpora ORDER BY corpus;

-- name: room_for_lists
-- Never less than the server gives by itself.
SELECT set_config('maintenance_work_mem',
                  greatest(pg_size_bytes(current_setting('maintenance_work_mem')) / 1024,
                           {kilobytes}) || 'kB', false);
