-- Cutting texts and embedding chunks: only what a generation does not serve yet.

-- name: unchunked
-- Texts of live documents that this generation's chunker has not cut.
SELECT DISTINCT ON (t.content_hash) t.content_hash, t.parser, t.title, t.text, t.headings, t.warnings
FROM documents d
JOIN document_texts t ON t.content_hash = d.content_hash AND t.parser = %(parser)s
LEFT JOIN indexed_documents s ON s.generation = %(generation)s AND s.doc_id = d.doc_id
WHERE d.corpus = %(corpus)s AND d.bucket = ANY (%(buckets)s) AND d.state = 'live'
  AND s.content_hash IS DISTINCT FROM d.content_hash
  AND NOT EXISTS (SELECT FROM chunk_sets c WHERE c.content_hash = t.content_hash
                  AND c.parser = t.parser AND c.chunker = %(chunker)s);

-- name: add_chunk_set
-- Gives no row when somebody else has cut this text meanwhile.
INSERT INTO chunk_sets (content_hash, parser, chunker, chunks)
VALUES (%(content_hash)s, %(parser)s, %(chunker)s, %(chunks)s)
ON CONFLICT DO NOTHING RETURNING chunks;

-- name: add_chunk
-- Only behind the chunk set that was just written.
INSERT INTO chunks (content_hash, parser, chunker, ord, start_char, end_char, heading_path, page,
                    tokens, text_hash, text)
VALUES (%(content_hash)s, %(parser)s, %(chunker)s, %(ord)s, %(start)s, %(end)s, %(heading_path)s,
        %(page)s, %(tokens)s, %(text_hash)s, %(text)s);

-- name: count_chunks
-- For people: the chunks of the live documents of each bucket.
SELECT d.bucket, coalesce(sum(c.chunks), 0)::integer AS chunks
FROM documents d
LEFT JOIN chunk_sets c ON c.content_hash = d.content_hash AND c.parser = %(parser)s
                      AND c.chunker = %(chunker)s
WHERE d.corpus = %(corpus)s AND d.state = 'live' GROUP BY d.bucket;

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
INSERT INTO embeddings (scope, model, text_hash, embedding, run_id)
SELECT scope, %(embedder)s, %(text_hash)s, %(vector)s, %(run_id)s FROM corpora
WHERE corpus = %(corpus)s
ON CONFLICT DO NOTHING;

-- name: verify_chunks
-- Chunks that do not stand in their text where they say: there must be none.
SELECT d.doc_id, c.ord FROM documents d
JOIN document_texts t ON t.content_hash = d.content_hash AND t.parser = %(parser)s
JOIN chunks c ON c.content_hash = t.content_hash AND c.parser = t.parser AND c.chunker = %(chunker)s
WHERE d.corpus = %(corpus)s AND d.state = 'live'
  AND substr(t.text, c.start_char + 1, c.end_char - c.start_char) <> c.text
ORDER BY d.doc_id, c.ord LIMIT 20;

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
