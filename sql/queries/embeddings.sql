-- Embedding chunks: only texts that a model has never seen, of documents that changed.

-- name: unembedded
-- Chunks of documents that changed since this generation last followed their bucket, and whose text
-- this model has never seen, each text once, in the order of the hashes. What the model refuses is
-- left alone, until it is cut otherwise. Each thing is looked up by its key: that few documents changed is nothing a plan can
-- know, and it would read all vectors.
SELECT DISTINCT ON (c.text_hash) c.ord, c.text, c.start_char AS start, c.end_char AS "end",
       c.heading_path, c.page, c.tokens, b.bucket
FROM unnest(%(buckets)s::smallint[]) b (bucket)
LEFT JOIN index_buckets served ON served.generation = %(generation)s AND served.bucket = b.bucket
CROSS JOIN LATERAL (
    SELECT doc_id, content_hash FROM documents
    WHERE corpus = %(corpus)s AND bucket = b.bucket AND version > coalesce(served.version, 0)
      AND state = 'live' OFFSET 0) d
CROSS JOIN LATERAL (
    SELECT * FROM chunks WHERE content_hash = d.content_hash AND parser = %(parser)s
    AND chunker = %(chunker)s OFFSET 0) c
WHERE (SELECT 1 FROM embeddings e
       WHERE e.scope = (SELECT scope FROM corpora WHERE corpus = %(corpus)s)
         AND e.model = %(embedder)s AND e.text_hash = c.text_hash) IS NULL
  AND NOT EXISTS (SELECT FROM dead_letters l
                  WHERE l.corpus = %(corpus)s AND l.doc_id = d.doc_id AND l.stage = 'embed'
                    AND l.subject = %(embedder)s AND l.content_hash = d.content_hash
                    AND NOT EXISTS (
                        SELECT FROM chunk_sets n WHERE n.content_hash = l.content_hash
                        AND n.parser = %(parser)s AND n.chunker = %(chunker)s
                        AND n.created_at > l.last_seen_at))
  AND NOT EXISTS (SELECT FROM verdicts q
                  WHERE q.corpus = %(corpus)s AND q.doc_id = d.doc_id
                    AND q.content_hash = d.content_hash AND q.quarantined AND NOT q.released
                    AND (q.stage, q.subject) IN (
                        ('documents', %(parser)s), ('chunks', %(parser)s || ' ' || %(chunker)s)))
ORDER BY c.text_hash;

-- name: wait_for_models
-- A model may take its time between two batches, and another run may have many texts for it.
SELECT set_config('idle_in_transaction_session_timeout', '1h', true),
       set_config('lock_timeout', '1h', true);

-- name: hold_embedding
-- No text of a bucket is given to a model by two runs at once; the lock ends with the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('rag_assets embedding ' || %(corpus)s || ' '
                                              || %(embedder)s, %(bucket)s));

-- name: embedded_meanwhile
-- Those of these texts that another run has embedded since the stream began.
SELECT text_hash FROM embeddings
WHERE scope = (SELECT scope FROM corpora WHERE corpus = %(corpus)s)
  AND model = %(embedder)s AND text_hash = ANY (%(text_hashes)s);

-- name: hold_claims
-- While this session lives, so do its claims. The numbers of two holders hardly ever meet; if they do,
-- the second waits.
SELECT pg_advisory_lock(hashtext('rag_assets embedding claims'), %(holder)s);

-- name: claim
-- The texts that are this holder's to pay for: those nobody claims, or somebody who is dead.
INSERT INTO embedding_claims AS c (scope, model, text_hash, holder)
SELECT k.scope, %(embedder)s, t.text_hash, %(holder)s
FROM corpora k, unnest(%(text_hashes)s::bytea[]) t (text_hash)
WHERE k.corpus = %(corpus)s
ORDER BY t.text_hash
ON CONFLICT (scope, model, text_hash) DO UPDATE SET holder = excluded.holder, claimed_at = now()
WHERE NOT EXISTS (
    SELECT FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted AND l.objid = c.holder::oid
      AND l.classid = (hashtext('rag_assets embedding claims')::bigint & 4294967295)::oid
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
RETURNING c.text_hash;

-- name: release_claims
-- What this holder has claimed and not paid for.
DELETE FROM embedding_claims WHERE holder = %(holder)s
  AND scope = (SELECT scope FROM corpora WHERE corpus = %(corpus)s) AND model = %(embedder)s;

-- name: add_embeddings
-- What has been paid for is kept, whoever paid first; not what no chunk has any more. The lock on one
-- such chunk keeps its text from being erased until this is committed, when it is seen and erased too.
INSERT INTO embeddings (scope, model, text_hash, embedding, run_id, code_version, checksum)
SELECT k.scope, %(embedder)s, t.text_hash, t.embedding, %(run_id)s, %(code_version)s,
       sha256(vector_send(t.embedding))
FROM corpora k
CROSS JOIN unnest(%(text_hashes)b::bytea[], %(vectors)b::vector[]) t (text_hash, embedding)
CROSS JOIN LATERAL (SELECT FROM chunks c WHERE c.text_hash = t.text_hash
                    LIMIT 1 FOR KEY SHARE) held
WHERE k.corpus = %(corpus)s
ON CONFLICT DO NOTHING;

-- name: drop_claims
-- Nobody needs to wait for these any more. Locked in the order in which they are claimed.
DELETE FROM embedding_claims c
USING (SELECT scope, model, text_hash FROM embedding_claims
       WHERE scope = (SELECT scope FROM corpora WHERE corpus = %(corpus)s) AND model = %(embedder)s
         AND text_hash = ANY (%(text_hashes)s)
       ORDER BY text_hash FOR UPDATE) done
WHERE (c.scope, c.model, c.text_hash) = (done.scope, done.model, done.text_hash);

-- name: passages
-- Where texts stand in live documents: those suffer when a text cannot be embedded.
SELECT d.doc_id, d.content_hash, c.text_hash, c.ord, c.start_char AS start, c.end_char AS "end"
FROM chunks c
JOIN documents d ON d.content_hash = c.content_hash
WHERE c.text_hash = ANY (%(text_hashes)s) AND c.parser = %(parser)s AND c.chunker = %(chunker)s
  AND d.corpus = %(corpus)s AND d.state = 'live'
ORDER BY d.doc_id, c.ord;

-- name: damaged_embeddings
-- Vectors of the wrong length, without direction, or not as they were written: there must be none.
-- Of documents that changed since they were served, or of all.
SELECT DISTINCT encode(e.text_hash, 'hex') AS text_hash
FROM corpora k
CROSS JOIN generate_series(0, k.buckets - 1) b (bucket)
LEFT JOIN index_buckets served ON served.generation = %(generation)s AND served.bucket = b.bucket
JOIN documents d ON d.corpus = k.corpus AND d.bucket = b.bucket
                AND d.version > CASE WHEN %(everywhere)s THEN -1 ELSE coalesce(served.version, 0) END
JOIN chunks c ON c.content_hash = d.content_hash AND c.parser = %(parser)s
             AND c.chunker = %(chunker)s
JOIN embeddings e ON e.scope = k.scope AND e.model = %(embedder)s AND e.text_hash = c.text_hash
WHERE k.corpus = %(corpus)s AND d.state = 'live'
  AND (vector_dims(e.embedding) <> %(dimensions)s OR vector_norm(e.embedding) = 0
       OR e.checksum <> sha256(vector_send(e.embedding)))
ORDER BY text_hash LIMIT 20;

-- name: missing_embeddings
-- Texts without a vector, of documents that changed since they were served and that the model does not
-- refuse: what still is to be embedded.
SELECT count(DISTINCT c.text_hash) AS missing
FROM corpora k
CROSS JOIN generate_series(0, k.buckets - 1) b (bucket)
LEFT JOIN index_buckets served ON served.generation = %(generation)s AND served.bucket = b.bucket
JOIN documents d ON d.corpus = k.corpus AND d.bucket = b.bucket
                AND d.version > coalesce(served.version, 0)
JOIN chunks c ON c.content_hash = d.content_hash AND c.parser = %(parser)s
             AND c.chunker = %(chunker)s
WHERE k.corpus = %(corpus)s AND d.state = 'live'
  AND NOT EXISTS (SELECT FROM embeddings e
                  WHERE e.scope = k.scope AND e.model = %(embedder)s AND e.text_hash = c.text_hash)
  AND NOT EXISTS (SELECT FROM dead_letters l
                  WHERE l.corpus = d.corpus AND l.doc_id = d.doc_id AND l.stage = 'embed'
                    AND l.subject = %(embedder)s AND l.content_hash = d.content_hash
                    AND NOT EXISTS (
                        SELECT FROM chunk_sets n WHERE n.content_hash = l.content_hash
                        AND n.parser = %(parser)s AND n.chunker = %(chunker)s
                        AND n.created_at > l.last_seen_at))
  AND NOT EXISTS (SELECT FROM verdicts q
                  WHERE q.corpus = %(corpus)s AND q.doc_id = d.doc_id
                    AND q.content_hash = d.content_hash AND q.quarantined AND NOT q.released
                    AND (q.stage, q.subject) IN (
                        ('documents', %(parser)s), ('chunks', %(parser)s || ' ' || %(chunker)s)));

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
