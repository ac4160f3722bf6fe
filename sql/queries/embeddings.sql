-- Embedding chunks: only texts that a model has never seen.

-- name: unembedded
-- Chunks of documents not served yet whose text this model has never seen, each text once.
SELECT DISTINCT ON (c.text_hash) c.ord, c.text, c.start_char AS start, c.end_char AS "end",
       c.heading_path, c.page, c.tokens
FROM documents d
JOIN chunks c ON c.content_hash = d.content_hash AND c.parser = %(parser)s
             AND c.chunker = %(chunker)s
LEFT JOIN indexed_documents s ON s.generation = %(generation)s AND s.doc_id = d.doc_id
WHERE d.corpus = %(corpus)s AND d.bucket = ANY (%(buckets)s) AND d.state = 'live'
  AND s.content_hash IS DISTINCT FROM d.content_hash
  AND NOT EXISTS (SELECT FROM embeddings e
                  WHERE e.scope = (SELECT scope FROM corpora WHERE corpus = %(corpus)s)
                    AND e.model = %(embedder)s AND e.text_hash = c.text_hash);

-- name: hold_embedding
-- No text of a bucket is given to a model by two runs at once; the lock ends with the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('rag_assets embedding ' || %(corpus)s || ' '
                                              || %(embedder)s, %(bucket)s));

-- name: embedded_meanwhile
-- Those of these texts that another bucket's run has embedded since the stream began.
SELECT text_hash FROM embeddings
WHERE scope = (SELECT scope FROM corpora WHERE corpus = %(corpus)s)
  AND model = %(embedder)s AND text_hash = ANY (%(text_hashes)s);

-- name: add_embedding
-- What has been paid for is kept, whoever paid first.
INSERT INTO embeddings (scope, model, text_hash, embedding, run_id, checksum)
SELECT scope, %(embedder)s, %(text_hash)s, %(vector)s, %(run_id)s, sha256(vector_send(%(vector)s))
FROM corpora WHERE corpus = %(corpus)s
ON CONFLICT DO NOTHING;

-- name: verify_embeddings
-- Vectors of a corpus's texts with the wrong length or no direction: there must be none.
SELECT DISTINCT encode(e.text_hash, 'hex') AS text_hash
FROM documents d
JOIN corpora k USING (corpus)
JOIN chunks c ON c.content_hash = d.content_hash AND c.parser = %(parser)s
             AND c.chunker = %(chunker)s
JOIN embeddings e ON e.scope = k.scope AND e.model = %(embedder)s AND e.text_hash = c.text_hash
WHERE d.corpus = %(corpus)s AND d.state = 'live'
  AND (vector_dims(e.embedding) <> %(dimensions)s OR vector_norm(e.embedding) = 0)
ORDER BY text_hash LIMIT 20;

-- name: count_embeddings
-- For people: how many texts of each bucket have their vector.
SELECT d.bucket, count(DISTINCT c.text_hash) AS embedded
FROM documents d
JOIN corpora k USING (corpus)
JOIN chunks c ON c.content_hash = d.content_hash AND c.parser = %(parser)s
             AND c.chunker = %(chunker)s
JOIN embeddings e ON e.scope = k.scope AND e.model = %(embedder)s AND e.text_hash = c.text_hash
WHERE d.corpus = %(corpus)s AND d.bucket = ANY (%(buckets)s) AND d.state = 'live'
GROUP BY d.bucket;

-- name: missing_embeddings
-- Texts of live documents without a vector: what still is to be embedded.
SELECT count(DISTINCT c.text_hash) AS missing
FROM documents d
JOIN corpora k USING (corpus)
JOIN chunks c ON c.content_hash = d.content_hash AND c.parser = %(parser)s
             AND c.chunker = %(chunker)s
WHERE d.corpus = %(corpus)s AND d.state = 'live' AND NOT EXISTS (
    SELECT FROM embeddings e WHERE e.scope = k.scope AND e.model = %(embedder)s
                               AND e.text_hash = c.text_hash);
