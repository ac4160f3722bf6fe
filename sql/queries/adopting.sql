-- Taking over tables of embeddings that others have made. What is read there is read only; the names
-- in braces are looked up in the catalogue before.

-- name: only_read
-- Nothing in this session can write.
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;

-- name: relation
-- A table by its name, exactly as it is written, and whether the role may read it.
SELECT c.oid::bigint AS oid, c.relkind::text AS kind,
       has_schema_privilege(n.oid, 'USAGE') AS reachable,
       has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT') AS readable,
       current_user::text AS role
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(name)s AND c.relkind IN ('r', 'p', 'v', 'm', 'f');

-- name: relations_like
-- Tables with a column of vectors, for whoever has mistaken a name.
SELECT n.nspname || '.' || c.relname AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'rag_assets'
  AND has_schema_privilege(n.oid, 'USAGE')
  AND EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
              WHERE a.attrelid = c.oid AND t.typname IN ('vector', 'halfvec'))
ORDER BY name LIMIT 10;

-- name: columns
-- The columns of a table with their types; of vectors, how wide they are if that is fixed.
SELECT a.attname::text AS name, t.typname::text AS type,
       has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS readable,
       CASE WHEN t.typname IN ('vector', 'halfvec') AND a.atttypmod > 0 THEN a.atttypmod END AS width,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary
               AND i.indkey::text = a.attnum::text) AS identifies
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %(oid)s::oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;

-- name: foreign_rows
-- All rows, or those that are wanted, in the order of the table.
SELECT {id} AS id, {text}::text AS text, {vector}::text AS vector, {document} AS document
FROM {table} WHERE {wanted};

-- name: some_vector
-- One, to see how wide it is.
SELECT {vector}::text AS vector FROM {table} WHERE {vector} IS NOT NULL AND {wanted} LIMIT 1;

-- name: contents
-- The live documents of a corpus whose text is stored, and whether it is cut under this name already.
SELECT d.doc_id, d.uri, d.content_hash, EXISTS (
    SELECT FROM chunk_sets s WHERE s.content_hash = d.content_hash AND s.parser = %(parser)s
                               AND s.chunker = %(chunker)s) AS cut
FROM documents d JOIN document_texts t ON t.content_hash = d.content_hash AND t.parser = %(parser)s
WHERE d.corpus = %(corpus)s AND d.state = 'live' ORDER BY d.doc_id;

-- name: texts
-- Some stored texts.
SELECT content_hash, parser, title, text, headings, pages, warnings FROM document_texts
WHERE parser = %(parser)s AND content_hash = ANY (%(content_hashes)s::bytea[]);

-- name: adopted
-- Passages without headings of texts that are cut under this name, and whether this model's vector of
-- each is there: another model's is none.
SELECT c.content_hash, c.start_char AS start, c.end_char AS "end", EXISTS (
    SELECT FROM embeddings e JOIN corpora k ON k.corpus = %(corpus)s AND k.scope = e.scope
    WHERE e.model = %(embedder)s AND e.text_hash = c.text_hash) AS embedded
FROM chunks c
WHERE c.content_hash = ANY (%(content_hashes)s::bytea[]) AND c.parser = %(parser)s
  AND c.chunker = %(chunker)s AND cardinality(c.heading_path) = 0;

-- name: make_found
-- What was found, until it is written document by document: of this session alone.
CREATE TEMPORARY TABLE found (
    row_number   bigint NOT NULL,
    content_hash bytea NOT NULL,
    start_char   integer NOT NULL,
    end_char     integer NOT NULL,
    vector       bytea NOT NULL
);

-- name: copy_found
-- Rows of the table, where they stand.
COPY found (row_number, content_hash, start_char, end_char, vector) FROM STDIN (FORMAT BINARY);

-- name: found
-- Document by document; a passage that is there twice counts once.
SELECT DISTINCT ON (content_hash, start_char, end_char)
       row_number, content_hash, start_char, end_char, vector
FROM {found} ORDER BY content_hash, start_char, end_char, vector;

-- name: rows_only_in
-- How many rows stand in these contents and in no other.
SELECT count(*) AS rows FROM (
    SELECT FROM {found} GROUP BY row_number
    HAVING bool_and(content_hash = ANY (%(content_hashes)s::bytea[]))) lost;

-- name: begin
-- That an adoption is under way, and what is known of it so far.
INSERT INTO adoptions (corpus, run_id, name, source, model, chunker, rows_read, left_out, sampled,
                       worst_cosine, code_version)
VALUES (%(corpus)s, %(run_id)s, %(name)s, %(source)s, %(model)s, %(chunker)s, %(rows_read)s,
        %(left_out)s::jsonb, %(sampled)s, %(worst_cosine)s, %(code_version)s);

-- name: count
-- One more document, in the transaction that has written it.
UPDATE adoptions SET contents = contents + 1, passages = passages + %(passages)s,
                     vectors = vectors + %(vectors)s
WHERE corpus = %(corpus)s AND run_id = %(run_id)s;

-- name: finish
-- That all has been written.
UPDATE adoptions SET left_out = %(left_out)s::jsonb, finished_at = now()
WHERE corpus = %(corpus)s AND run_id = %(run_id)s;
