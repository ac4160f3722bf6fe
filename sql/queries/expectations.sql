-- What expectations are judged on, one row a document or chunk: ids and figures, never a word of a
-- document, nor its title or place. Each list of columns is one that users write expectations for.

-- name: keep
-- Under its own name while the session lasts: one scan, and one moment for all stages.
CREATE TEMPORARY TABLE {batch} AS {rows};

-- name: count
-- How many rows a stage has.
SELECT count(*) AS rows FROM {batch};

-- name: only_read
-- Whatever an expectation asks, nothing can be changed from here on.
SELECT set_config('default_transaction_read_only', 'on', false);

-- name: documents
-- The live documents but those that other checks tell of: quarantined, or without a readable text.
SELECT d.doc_id, encode(d.content_hash, 'hex') AS content, d.bucket::integer AS bucket, d.parser,
       char_length(t.text) AS characters, jsonb_array_length(t.headings) AS headings,
       cardinality(t.pages) AS pages, cardinality(t.warnings) AS warnings, cardinality(d.acl) AS readers,
       count(*) OVER (PARTITION BY d.content_hash)::integer AS copies,
       extract(epoch FROM now() - v.first_seen_at)::double precision / 86400 AS age_days
FROM documents d
LEFT JOIN document_texts t ON t.content_hash = d.content_hash AND t.parser = d.parser
LEFT JOIN document_versions v ON v.corpus = d.corpus AND v.doc_id = d.doc_id
                             AND v.last_seen_at IS NULL
WHERE d.corpus = %(corpus)s AND d.state = 'live'
  AND NOT EXISTS (SELECT FROM verdicts q
                  WHERE q.corpus = d.corpus AND q.doc_id = d.doc_id
                    AND q.content_hash = d.content_hash AND q.quarantined AND NOT q.released)
  AND NOT EXISTS (SELECT FROM dead_letters l
                  WHERE l.corpus = d.corpus AND l.doc_id = d.doc_id AND l.stage = 'parse'
                    AND l.subject = d.parser AND l.content_hash = d.content_hash);

-- name: chunks
-- Of the documents that the generation serves.
SELECT s.doc_id, c.ord, encode(s.content_hash, 'hex') AS content,
       s.bucket::integer AS bucket, char_length(c.text) AS characters, c.tokens, c.start_char,
       c.end_char, c.end_char - c.start_char AS span,
       c.start_char - lag(c.end_char) OVER (PARTITION BY s.doc_id ORDER BY c.ord) AS gap,
       cardinality(c.heading_path) AS headings, c.page,
       count(*) OVER (PARTITION BY c.text_hash)::integer AS copies
FROM indexed_documents s
JOIN chunks c ON c.content_hash = s.content_hash AND c.parser = %(parser)s
             AND c.chunker = %(chunker)s
WHERE s.generation = %(generation)s;

-- name: embeddings
-- The vector of each of these chunks; without figures where there is none.
SELECT s.doc_id, c.ord, encode(s.content_hash, 'hex') AS content,
       s.bucket::integer AS bucket, vector_dims(e.embedding) AS dimensions,
       vector_norm(e.embedding) AS norm,
       extract(epoch FROM now() - e.created_at)::double precision / 86400 AS age_days
FROM indexed_documents s
JOIN generations g ON g.generation = s.generation
JOIN corpora k ON k.corpus = g.corpus
JOIN chunks c ON c.content_hash = s.content_hash AND c.parser = %(parser)s
             AND c.chunker = %(chunker)s
LEFT JOIN embeddings e ON e.scope = k.scope AND e.model = %(embedder)s
                      AND e.text_hash = c.text_hash
WHERE s.generation = %(generation)s;

-- name: index
-- What is searched beside what was cut: a row without a chunk, and a chunk without a row, too.
SELECT coalesce(i.doc_id, c.doc_id) AS doc_id, coalesce(i.ord, c.ord) AS ord,
       coalesce(i.bucket, c.bucket)::integer AS bucket, i.doc_id IS NOT NULL AS has_row,
       c.doc_id IS NOT NULL AS has_chunk, coalesce(i.text_hash = c.text_hash, false) AS same_text,
       i.words, cardinality(i.acl) AS readers, vector_dims(i.embedding) AS dimensions,
       l2_norm(i.embedding) AS norm
FROM {index} i
FULL JOIN (SELECT s.doc_id, s.bucket, c.ord, c.text_hash
           FROM indexed_documents s
           JOIN chunks c ON c.content_hash = s.content_hash AND c.parser = %(parser)s
                        AND c.chunker = %(chunker)s
           WHERE s.generation = %(generation)s) c ON c.doc_id = i.doc_id AND c.ord = i.ord;

-- name: subselect
-- What `{{batch}}` stands for in a query of the user's, as Great Expectations writes it.
(SELECT * FROM {batch}) AS subselect;

-- name: offenders
-- Of the rows that a query of the user's gives, the ids alone: nothing else leaves the database.
SELECT to_jsonb(r) ->> 'doc_id' AS doc_id, to_jsonb(r) ->> 'ord' AS ord
FROM ({query}) r WHERE to_jsonb(r) ->> 'doc_id' IS NOT NULL LIMIT {most};

-- name: contents
-- What the documents of some rows were when the rows were taken.
SELECT DISTINCT doc_id, decode(content, 'hex') AS content_hash FROM {batch}
WHERE doc_id = ANY (%(doc_ids)s::text[]);
