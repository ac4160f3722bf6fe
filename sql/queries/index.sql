-- The merge: the only thing that changes under readers.

-- name: standing
-- How far each bucket has been merged, and whether its rows are as many as its manifest says.
-- Doubtful: it serves what is no longer there to be processed, or what was there before something
-- was put into quarantine, which the settings once allowed.
SELECT b.bucket, coalesce(v.version, 0) AS version, coalesce(m.version, 0) AS merged,
       coalesce(m.documents, 0) AS documents, coalesce(m.chunks, 0) AS chunks,
       coalesce(m.words, 0) AS words, coalesce(m.checksum, 0) AS checksum,
       CASE WHEN %(counted)s THEN
           (SELECT count(*) FROM indexed_documents s
            WHERE s.generation = %(generation)s AND s.bucket = b.bucket)
       ELSE coalesce(m.documents, 0) END AS documents_found,
       CASE WHEN %(counted)s THEN (SELECT count(*) FROM {index} i WHERE i.bucket = b.bucket)
       ELSE coalesce(m.chunks, 0) END AS chunks_found,
       NOT %(keep_last_good)s AND (EXISTS (
           SELECT FROM dead_letters l
           JOIN documents d ON d.corpus = l.corpus AND d.doc_id = l.doc_id
           JOIN indexed_documents s ON s.generation = %(generation)s AND s.doc_id = l.doc_id
           WHERE l.corpus = %(corpus)s AND l.bucket = b.bucket
             AND (d.state <> 'live' OR d.content_hash <> s.content_hash))
           OR EXISTS (
           SELECT FROM verdicts q
           JOIN documents d ON d.corpus = q.corpus AND d.doc_id = q.doc_id AND d.state = 'live'
                           AND d.content_hash = q.content_hash
           JOIN indexed_documents s ON s.generation = %(generation)s AND s.doc_id = q.doc_id
           WHERE q.corpus = %(corpus)s AND q.bucket = b.bucket AND q.quarantined AND NOT q.released
             AND d.content_hash <> s.content_hash
             AND (q.stage, q.subject) IN (
                 ('documents', %(parser)s), ('chunks', %(parser)s || ' ' || %(chunker)s),
                 ('embeddings', %(parser)s || ' ' || %(chunker)s || ' ' || %(embedder)s))))
           AS doubtful
FROM unnest(%(buckets)s::smallint[]) b (bucket)
LEFT JOIN buckets v ON v.corpus = %(corpus)s AND v.bucket = b.bucket
LEFT JOIN index_buckets m ON m.generation = %(generation)s AND m.bucket = b.bucket
ORDER BY b.bucket;

-- name: changed
-- What was written since the last merge, and what is served though it could not be processed, or is
-- in quarantine.
SELECT doc_id FROM documents
WHERE corpus = %(corpus)s AND bucket = %(bucket)s AND version > %(merged)s
UNION
SELECT l.doc_id FROM dead_letters l
JOIN indexed_documents s ON s.generation = %(generation)s AND s.doc_id = l.doc_id
WHERE l.corpus = %(corpus)s AND l.bucket = %(bucket)s
UNION
SELECT q.doc_id FROM verdicts q
JOIN indexed_documents s ON s.generation = %(generation)s AND s.doc_id = q.doc_id
WHERE q.corpus = %(corpus)s AND q.bucket = %(bucket)s AND q.quarantined AND NOT q.released
ORDER BY doc_id;

-- name: everything
-- All that has to do with a bucket, wherever it stands: its rows are not those of its manifest.
SELECT doc_id FROM documents WHERE corpus = %(corpus)s AND bucket = %(bucket)s
UNION
SELECT doc_id FROM indexed_documents WHERE generation = %(generation)s AND bucket = %(bucket)s
UNION
SELECT doc_id FROM {index} WHERE bucket = %(bucket)s
ORDER BY doc_id;

-- name: compare
-- Observed against served, document by document. Ready, and restorable: every vector is there.
-- A letter says nothing of chunks that were cut after it.
-- Vectors are looked up one by one: a join may be planned as a pass over all of a model's vectors.
SELECT n.doc_id, d.state, coalesce(d.version, 0) AS version,
       d.content_hash, d.uri, d.title, d.acl,
       s.content_hash AS served_content, s.uri AS served_uri, s.title AS served_title,
       s.acl AS served_acl, r.ready, r.restorable,
       EXISTS (SELECT FROM dead_letters l
               WHERE l.corpus = d.corpus AND l.doc_id = d.doc_id
                 AND l.content_hash = d.content_hash
                 AND (l.stage, l.subject) IN (('parse', %(parser)s), ('chunk', %(chunker)s),
                                              ('embed', %(embedder)s))
                 AND NOT EXISTS (
                     SELECT FROM chunk_sets n WHERE n.content_hash = l.content_hash
                     AND n.parser = %(parser)s AND n.chunker = %(chunker)s
                     AND n.created_at > l.last_seen_at)) AS poison,
       EXISTS (SELECT FROM verdicts q
               WHERE q.corpus = d.corpus AND q.doc_id = d.doc_id
                 AND q.content_hash = d.content_hash AND q.quarantined AND NOT q.released
                 AND (q.stage, q.subject) IN (
                     ('documents', %(parser)s), ('chunks', %(parser)s || ' ' || %(chunker)s),
                     ('embeddings', %(parser)s || ' ' || %(chunker)s || ' ' || %(embedder)s))) AS quarantined,
       CASE
       WHEN s.doc_id IS NULL THEN NOT EXISTS (SELECT FROM {index} i WHERE i.doc_id = n.doc_id)
       -- Written anew anyway.
       WHEN r.ready AND s.content_hash <> d.content_hash THEN true
       ELSE s.bucket = coalesce(d.bucket, s.bucket)
            AND (SELECT (count(*), coalesce(sum(i.words), 0)) = (s.chunks, s.words)
                 FROM {index} i WHERE i.doc_id = s.doc_id)
            AND s.words = (SELECT coalesce(sum(p.frequency), 0) FROM {postings} p
                           WHERE p.doc_id = s.doc_id)
            AND NOT EXISTS (
                SELECT FROM {index} i
                LEFT JOIN chunks t ON t.content_hash = s.content_hash AND t.parser = %(parser)s
                                  AND t.chunker = %(chunker)s AND t.ord = i.ord
                WHERE i.doc_id = s.doc_id
                  AND ((i.bucket, i.acl, i.text_hash) IS DISTINCT FROM
                       (s.bucket, s.acl, t.text_hash)
                       OR i.embedding <> (SELECT e.embedding::halfvec FROM embeddings e
                                          WHERE e.scope = k.scope AND e.model = %(embedder)s
                                            AND e.text_hash = t.text_hash)))
       END AS intact
FROM unnest(%(doc_ids)s::text[]) n (doc_id)
LEFT JOIN corpora k ON k.corpus = %(corpus)s
LEFT JOIN documents d ON d.corpus = %(corpus)s AND d.doc_id = n.doc_id
LEFT JOIN indexed_documents s ON s.generation = %(generation)s AND s.doc_id = n.doc_id
CROSS JOIN LATERAL (
    SELECT coalesce(bool_or(c.content_hash = d.content_hash AND d.state = 'live'), false) AS ready,
           coalesce(bool_or(c.content_hash = s.content_hash), false) AS restorable
    FROM chunk_sets c
    WHERE c.content_hash IN (d.content_hash, s.content_hash) AND c.parser = %(parser)s
      AND c.chunker = %(chunker)s
      AND c.chunks = (
          SELECT count((SELECT 1 FROM embeddings e WHERE e.scope = k.scope
                        AND e.model = %(embedder)s AND e.text_hash = t.text_hash))
          FROM chunks t WHERE t.content_hash = c.content_hash
            AND t.parser = c.parser AND t.chunker = c.chunker)
    OFFSET 0) r;

-- name: open_tables
-- In the order in which searches take them, and the end of a generation: nobody waits in a circle.
LOCK TABLE {postings}, {index} IN ACCESS SHARE MODE;

-- name: lock_corpus
-- Until the merge ends, nobody spreads the corpus over other buckets or removes it.
SELECT corpus FROM corpora WHERE corpus = %(corpus)s FOR KEY SHARE;

-- name: lock_bucket
-- One merge at a time for a bucket of a generation; the lock goes with the connection.
SELECT pg_advisory_lock(%(generation)s, %(bucket)s);

-- name: unlock_bucket
-- For the next bucket of the same connection.
SELECT pg_advisory_unlock(%(generation)s, %(bucket)s);

-- name: delete_postings
-- First what hangs on a chunk, then the chunk.
DELETE FROM {postings} WHERE doc_id = ANY (%(doc_ids)s);

-- name: delete_rows
-- The chunks of documents that changed, left or were damaged.
DELETE FROM {index} WHERE doc_id = ANY (%(doc_ids)s);

-- name: delete_documents
-- What was served of them, for the manifest.
DELETE FROM indexed_documents WHERE generation = %(generation)s AND doc_id = ANY (%(doc_ids)s)
RETURNING doc_id, chunks, words, checksum;

-- name: insert_postings
-- Every stem of headings and text, with how often it stands there. What is longer than any word
-- is a blob, and would not fit into the table's index.
INSERT INTO {postings} (stem, doc_id, ord, frequency, words)
SELECT w.lexeme, d.doc_id, c.ord, cardinality(w.positions),
       sum(cardinality(w.positions)) OVER (PARTITION BY d.doc_id, c.ord)
FROM (
    SELECT doc_id, bucket, content_hash, acl FROM documents
    WHERE corpus = %(corpus)s AND state = 'live' AND doc_id = ANY (%(doc_ids)s)
    UNION ALL
    SELECT doc_id, bucket, content_hash, acl FROM indexed_documents
    WHERE generation = %(generation)s AND doc_id = ANY (%(restored)s)) d
CROSS JOIN LATERAL (
    SELECT ord, array_to_string(heading_path, ' ') || ' ' || text AS words FROM chunks
    WHERE content_hash = d.content_hash AND parser = %(parser)s AND chunker = %(chunker)s
    OFFSET 0) c
CROSS JOIN LATERAL unnest(to_tsvector('english', c.words)) w
WHERE octet_length(w.lexeme) <= 500;

-- name: insert_rows
-- The chunks of documents that came or changed, with their vectors, and of those whose rows were
-- damaged while what is served of them cannot change.
INSERT INTO {index} (doc_id, ord, bucket, acl, text_hash, words, embedding)
SELECT d.doc_id, c.ord, d.bucket, d.acl, c.text_hash,
       coalesce((SELECT p.words FROM {postings} p
                 WHERE p.doc_id = d.doc_id AND p.ord = c.ord LIMIT 1), 0),
       (SELECT e.embedding::halfvec FROM embeddings e WHERE e.scope = k.scope
        AND e.model = %(embedder)s AND e.text_hash = c.text_hash)
FROM (
    SELECT doc_id, bucket, content_hash, acl FROM documents
    WHERE corpus = %(corpus)s AND state = 'live' AND doc_id = ANY (%(doc_ids)s)
    UNION ALL
    SELECT doc_id, bucket, content_hash, acl FROM indexed_documents
    WHERE generation = %(generation)s AND doc_id = ANY (%(restored)s)) d
JOIN corpora k ON k.corpus = %(corpus)s
CROSS JOIN LATERAL (
    SELECT ord, text_hash FROM chunks WHERE content_hash = d.content_hash
    AND parser = %(parser)s AND chunker = %(chunker)s OFFSET 0) c
RETURNING doc_id;

-- name: insert_documents
-- What is served from now on, and by which run; the checksum covers content and permissions.
INSERT INTO indexed_documents (generation, doc_id, bucket, content_hash, chunks, words, uri, title,
                               acl, checksum, run_id, code_version)
SELECT %(generation)s, d.doc_id, d.bucket, d.content_hash, count(i.ord), coalesce(sum(i.words), 0),
       d.uri, d.title, d.acl,
       served_checksum(d.doc_id, d.content_hash, count(i.ord), d.uri, d.title, d.acl),
       %(run_id)s, %(code_version)s
FROM documents d LEFT JOIN {index} i ON i.doc_id = d.doc_id
WHERE d.corpus = %(corpus)s AND d.state = 'live' AND d.doc_id = ANY (%(doc_ids)s)
GROUP BY d.corpus, d.doc_id
RETURNING doc_id, chunks, words, checksum;

-- name: describe_rows
-- Permissions change in place: nothing is embedded.
UPDATE {index} i SET acl = d.acl
FROM documents d
WHERE d.corpus = %(corpus)s AND d.doc_id = i.doc_id AND i.acl <> d.acl
  AND i.doc_id = ANY (%(doc_ids)s);

-- name: describe_documents
-- Of content that is not served yet, only the permissions count already.
UPDATE indexed_documents s
SET uri = n.uri, title = n.title, acl = n.acl, run_id = %(run_id)s, merged_at = now(),
    code_version = %(code_version)s,
    checksum = served_checksum(s.doc_id, s.content_hash, s.chunks, n.uri, n.title, n.acl)
FROM indexed_documents b
JOIN documents d ON d.corpus = %(corpus)s AND d.doc_id = b.doc_id
CROSS JOIN LATERAL (
    SELECT CASE WHEN same THEN d.uri ELSE b.uri END AS uri,
           CASE WHEN same THEN d.title ELSE b.title END AS title, d.acl
    FROM (SELECT d.state = 'live' AND d.content_hash = b.content_hash AS same) c) n
WHERE b.generation = %(generation)s AND b.doc_id = ANY (%(doc_ids)s)
  AND s.generation = b.generation AND s.doc_id = b.doc_id
RETURNING s.doc_id, b.checksum # s.checksum AS checksum;

-- name: recount
-- What a manifest must say after what it counted was damaged: the sum of what is served.
SELECT count(*) AS documents, coalesce(sum(chunks), 0) AS chunks, coalesce(sum(words), 0) AS words,
       coalesce(bit_xor(checksum), 0) AS checksum
FROM indexed_documents WHERE generation = %(generation)s AND bucket = %(bucket)s;

-- name: write_manifest
-- With the rows that it vouches for, in their transaction.
INSERT INTO index_buckets AS m (generation, bucket, documents, chunks, words, checksum, version,
                                run_id)
VALUES (%(generation)s, %(bucket)s, %(documents)s, %(chunks)s, %(words)s, %(checksum)s, %(version)s,
        %(run_id)s)
ON CONFLICT (generation, bucket) DO UPDATE
SET documents = excluded.documents, chunks = excluded.chunks, words = excluded.words,
    checksum = excluded.checksum, version = excluded.version, run_id = excluded.run_id,
    merged_at = now();
