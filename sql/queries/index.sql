-- The merge: the only thing that changes under readers.

-- name: changes
-- Observed against served, for one bucket of one generation; ready when every vector is there.
-- Vectors are counted one by one: a join may be planned as a pass over all of a model's vectors.
SELECT coalesce(d.doc_id, s.doc_id) AS doc_id,
       CASE WHEN d.doc_id IS NULL THEN 'remove'
            WHEN s.doc_id IS NULL THEN 'add'
            WHEN s.content_hash <> d.content_hash THEN 'replace'
            ELSE 'describe' END AS change,
       d.doc_id IS NULL OR s.content_hash IS NOT DISTINCT FROM d.content_hash OR EXISTS (
           SELECT FROM chunk_sets c
           WHERE c.content_hash = d.content_hash AND c.parser = %(parser)s
             AND c.chunker = %(chunker)s
             AND c.chunks = (
                 SELECT count((SELECT 1 FROM embeddings e WHERE e.scope = corpus.scope
                               AND e.model = %(embedder)s AND e.text_hash = k.text_hash))
                 FROM chunks k, corpora corpus
                 WHERE corpus.corpus = %(corpus)s AND k.content_hash = c.content_hash
                   AND k.parser = c.parser AND k.chunker = c.chunker)) AS ready
FROM (SELECT * FROM documents
      WHERE corpus = %(corpus)s AND bucket = %(bucket)s AND state = 'live') d
FULL JOIN (SELECT * FROM indexed_documents
           WHERE generation = %(generation)s AND bucket = %(bucket)s) s USING (doc_id)
WHERE (s.content_hash, s.uri, s.title, s.acl)
      IS DISTINCT FROM (d.content_hash, d.uri, d.title, d.acl)
ORDER BY 1;

-- name: lock_corpus
-- Until the merge ends, nobody spreads the corpus over other buckets or removes it.
SELECT corpus FROM corpora WHERE corpus = %(corpus)s FOR SHARE;

-- name: open_manifest
-- The row that a merge keeps.
INSERT INTO index_buckets (generation, bucket, documents, chunks, words, checksum, run_id)
VALUES (%(generation)s, %(bucket)s, 0, 0, 0, 0, %(run_id)s)
ON CONFLICT DO NOTHING;

-- name: lock_bucket
-- One merge at a time for a bucket of a generation; the lock goes with the connection.
SELECT pg_advisory_lock(%(generation)s, %(bucket)s);

-- name: unlock_bucket
-- For the next bucket of the same connection.
SELECT pg_advisory_unlock(%(generation)s, %(bucket)s);

-- name: manifest
-- What must be in a bucket.
SELECT documents, chunks, words, checksum FROM index_buckets
WHERE generation = %(generation)s AND bucket = %(bucket)s;

-- name: delete_postings
-- First what hangs on a chunk, then the chunk.
DELETE FROM {postings} WHERE doc_id = ANY (%(doc_ids)s);

-- name: delete_rows
-- The chunks of documents that changed or left.
DELETE FROM {index} WHERE doc_id = ANY (%(doc_ids)s);

-- name: delete_documents
-- What was served of them, for the manifest.
DELETE FROM indexed_documents
WHERE generation = %(generation)s AND bucket = %(bucket)s AND doc_id = ANY (%(doc_ids)s)
RETURNING chunks, words, checksum;

-- name: insert_postings
-- Every stem of headings and text, with how often it stands there. What is longer than any word
-- is a blob, and would not fit into the table's index.
INSERT INTO {postings} (stem, doc_id, ord, frequency, words)
SELECT w.lexeme, d.doc_id, c.ord, cardinality(w.positions),
       sum(cardinality(w.positions)) OVER (PARTITION BY d.doc_id, c.ord)
FROM documents d
CROSS JOIN LATERAL (
    SELECT ord, array_to_string(heading_path, ' ') || ' ' || text AS words FROM chunks
    WHERE content_hash = d.content_hash AND parser = %(parser)s AND chunker = %(chunker)s
    OFFSET 0) c
CROSS JOIN LATERAL unnest(to_tsvector('english', c.words)) w
WHERE octet_length(w.lexeme) <= 500 AND d.corpus = %(corpus)s AND d.bucket = %(bucket)s
  AND d.state = 'live' AND d.doc_id = ANY (%(doc_ids)s);

-- name: insert_rows
-- The chunks of documents that came or changed, with their vectors.
INSERT INTO {index} (doc_id, ord, bucket, acl, text_hash, words, embedding)
SELECT d.doc_id, c.ord, d.bucket, d.acl, c.text_hash,
       coalesce((SELECT p.words FROM {postings} p
                 WHERE p.doc_id = d.doc_id AND p.ord = c.ord LIMIT 1), 0),
       (SELECT e.embedding::halfvec FROM embeddings e WHERE e.scope = k.scope
        AND e.model = %(embedder)s AND e.text_hash = c.text_hash)
FROM documents d
JOIN corpora k USING (corpus)
CROSS JOIN LATERAL (
    SELECT ord, text_hash FROM chunks WHERE content_hash = d.content_hash
    AND parser = %(parser)s AND chunker = %(chunker)s OFFSET 0) c
WHERE d.corpus = %(corpus)s AND d.bucket = %(bucket)s AND d.state = 'live'
  AND d.doc_id = ANY (%(doc_ids)s);

-- name: insert_documents
-- What is served from now on, and by which run; the checksum covers content and permissions.
INSERT INTO indexed_documents (generation, doc_id, bucket, content_hash, chunks, words, uri, title,
                               acl, checksum, run_id)
SELECT %(generation)s, d.doc_id, d.bucket, d.content_hash, count(i.ord), coalesce(sum(i.words), 0),
       d.uri, d.title, d.acl,
       ('x' || left(encode(sha256(convert_to(concat_ws(
           chr(31), d.doc_id, encode(d.content_hash, 'hex'), count(i.ord), d.uri, d.title,
           d.acl::text), 'UTF8')), 'hex'), 16))::bit(64)::bigint,
       %(run_id)s
FROM documents d LEFT JOIN {index} i ON i.doc_id = d.doc_id
WHERE d.corpus = %(corpus)s AND d.bucket = %(bucket)s AND d.state = 'live'
  AND d.doc_id = ANY (%(doc_ids)s)
GROUP BY d.corpus, d.doc_id
RETURNING doc_id, chunks, words, checksum;

-- name: describe_rows
-- Permissions change in place: nothing is embedded.
UPDATE {index} i SET acl = d.acl
FROM documents d
WHERE d.corpus = %(corpus)s AND d.doc_id = i.doc_id AND i.acl <> d.acl
  AND i.doc_id = ANY (%(doc_ids)s);

-- name: write_manifest
-- With the rows that it vouches for, in their transaction.
UPDATE index_buckets
SET documents = %(documents)s, chunks = %(chunks)s, words = %(words)s, checksum = %(checksum)s,
    run_id = %(run_id)s, merged_at = now()
WHERE generation = %(generation)s AND bucket = %(bucket)s;

-- name: verify_manifest
-- Buckets whose rows are not what their manifest says: there must be none.
SELECT m.bucket, m.chunks AS expected, count(i.ord)::integer AS found
FROM index_buckets m LEFT JOIN {index} i ON i.bucket = m.bucket
WHERE m.generation = %(generation)s
GROUP BY m.bucket, m.chunks HAVING count(i.ord) <> m.chunks
ORDER BY m.bucket;
