-- Recomputing everything that is stored, and putting right what is not as it should be.
-- Each check gives the subjects that are damaged: there must be none.

-- name: corpus
-- What the ids are spread over, and whose vectors count.
SELECT scope, buckets FROM corpora WHERE corpus = %(corpus)s;

-- name: open_tables
-- In the order in which searches take them, and the end of a generation: nobody waits in a circle.
LOCK TABLE {postings}, {index} IN ACCESS SHARE MODE;

-- name: buckets_of_documents
-- Held against the hash of each id.
SELECT doc_id, bucket FROM documents WHERE corpus = %(corpus)s
UNION ALL SELECT doc_id, bucket FROM dead_letters WHERE corpus = %(corpus)s
UNION ALL SELECT doc_id, bucket FROM hints WHERE corpus = %(corpus)s
UNION ALL SELECT doc_id, bucket FROM withheld_deletions WHERE corpus = %(corpus)s
UNION ALL SELECT doc_id, bucket FROM verdicts WHERE corpus = %(corpus)s;

-- name: counters
-- Buckets whose count of changes is below that of a document of theirs.
SELECT d.bucket::text AS subject
FROM documents d LEFT JOIN buckets b ON b.corpus = d.corpus AND b.bucket = d.bucket
WHERE d.corpus = %(corpus)s
GROUP BY d.bucket, b.version HAVING max(d.version) > coalesce(b.version, 0) ORDER BY d.bucket;

-- name: versions
-- Documents whose current version is another one, is missing, or should have ended.
SELECT coalesce(d.doc_id, v.doc_id) AS subject
FROM (SELECT * FROM documents WHERE corpus = %(corpus)s AND state = 'live') d
FULL JOIN (SELECT * FROM document_versions
           WHERE corpus = %(corpus)s AND last_seen_at IS NULL) v USING (doc_id)
WHERE (d.content_hash, d.parser, d.uri) IS DISTINCT FROM (v.content_hash, v.parser, v.uri)
ORDER BY subject;

-- name: texts
-- Of every version of every document.
SELECT DISTINCT encode(t.content_hash, 'hex') AS subject
FROM document_texts t
WHERE t.checksum <> sha256(convert_to(t.text, 'UTF8')) AND t.content_hash IN (
    SELECT content_hash FROM documents WHERE corpus = %(corpus)s
    UNION SELECT content_hash FROM document_versions WHERE corpus = %(corpus)s)
ORDER BY subject;

-- name: missing_texts
-- A live document is recorded with its text, or with a letter that says why its parser has none.
SELECT DISTINCT encode(d.content_hash, 'hex') AS subject
FROM documents d
WHERE d.corpus = %(corpus)s AND d.state = 'live' AND NOT EXISTS (
    SELECT FROM document_texts t WHERE t.content_hash = d.content_hash AND t.parser = d.parser)
  AND NOT EXISTS (
    SELECT FROM dead_letters l
    WHERE l.corpus = d.corpus AND l.doc_id = d.doc_id AND l.stage = 'parse'
      AND l.subject = d.parser AND l.content_hash = d.content_hash)
ORDER BY subject;

-- name: chunks
-- As many as were cut, each where it says, each under the hash of what a model is given of it, in
-- the order of the text, with no word between them. (Adopted ones may overlap, and leave out headings.)
SELECT DISTINCT encode(s.content_hash, 'hex') AS subject
FROM chunk_sets s
JOIN document_texts t ON t.content_hash = s.content_hash AND t.parser = s.parser
CROSS JOIN LATERAL (SELECT starts_with(s.chunker, 'adopted@') AS adopted) a
CROSS JOIN LATERAL (
    SELECT count(*) AS found, coalesce(max(ord) + 1, 0) AS ords, coalesce(max(end_char), 0) AS ends,
           coalesce(bool_or(
               c.text <> substr(t.text, start_char + 1, end_char - start_char)
               OR text_hash <> sha256(convert_to(
                   CASE WHEN cardinality(heading_path) > 0
                        THEN array_to_string(heading_path, ' > ') || chr(10) ELSE '' END || c.text,
                   'UTF8'))
               OR start_char < CASE WHEN a.adopted THEN began ELSE before END
               OR NOT a.adopted
                  AND substr(t.text, before + 1, greatest(start_char - before, 0)) ~ '[[:alnum:]]'
           ), false) AS wrong
    FROM (SELECT *, lag(end_char, 1, 0) OVER (ORDER BY ord) AS before,
                 lag(start_char, 1, 0) OVER (ORDER BY ord) AS began FROM chunks
          WHERE content_hash = s.content_hash AND parser = s.parser AND chunker = s.chunker) c) f
WHERE s.content_hash IN (
    SELECT content_hash FROM documents WHERE corpus = %(corpus)s
    UNION SELECT content_hash FROM document_versions WHERE corpus = %(corpus)s)
  AND NOT encode(s.content_hash, 'hex') = ANY (%(damaged)s)
  AND (f.found <> s.chunks OR f.ords <> s.chunks OR f.wrong
       OR NOT a.adopted AND substr(t.text, f.ends + 1) ~ '[[:alnum:]]')
ORDER BY subject;

-- name: missing_chunks
-- What is served has been cut.
SELECT DISTINCT encode(s.content_hash, 'hex') AS subject
FROM indexed_documents s
WHERE s.generation = %(generation)s AND NOT EXISTS (
    SELECT FROM chunk_sets c WHERE c.content_hash = s.content_hash AND c.parser = %(parser)s
                               AND c.chunker = %(chunker)s)
ORDER BY subject;

-- name: embeddings
-- As they were written, of the model's length, with a direction.
SELECT DISTINCT encode(e.text_hash, 'hex') AS subject
FROM chunks c
JOIN embeddings e ON e.scope = %(scope)s AND e.model = %(embedder)s AND e.text_hash = c.text_hash
WHERE c.parser = %(parser)s AND c.chunker = %(chunker)s AND c.content_hash IN (
    SELECT content_hash FROM documents WHERE corpus = %(corpus)s
    UNION SELECT content_hash FROM document_versions WHERE corpus = %(corpus)s)
  AND (e.checksum <> sha256(vector_send(e.embedding))
       OR vector_dims(e.embedding) <> %(dimensions)s
       OR NOT (vector_norm(e.embedding) > 0 AND vector_norm(e.embedding) < 'Infinity'))
ORDER BY subject;

-- name: missing_embeddings
-- What is served was embedded.
SELECT DISTINCT encode(c.text_hash, 'hex') AS subject
FROM indexed_documents s
JOIN documents d ON d.corpus = %(corpus)s AND d.doc_id = s.doc_id AND d.state = 'live'
                AND d.content_hash = s.content_hash
JOIN chunks c ON c.content_hash = s.content_hash AND c.parser = %(parser)s
             AND c.chunker = %(chunker)s
WHERE s.generation = %(generation)s AND NOT EXISTS (
    SELECT FROM embeddings e
    WHERE e.scope = %(scope)s AND e.model = %(embedder)s AND e.text_hash = c.text_hash)
ORDER BY subject;

-- name: served
-- What was observed up to the last merge is served so, and nothing else; what cannot be processed,
-- or is in quarantine, may be served as it was. What is said of it adds up.
SELECT doc_id AS subject
FROM (SELECT * FROM documents WHERE corpus = %(corpus)s) d
FULL JOIN (SELECT * FROM indexed_documents WHERE generation = %(generation)s) s USING (doc_id)
LEFT JOIN index_buckets m ON m.generation = %(generation)s
                         AND m.bucket = coalesce(d.bucket, s.bucket)
WHERE coalesce(d.version, 0) <= coalesce(m.version, 0)
  AND CASE
      WHEN d.state = 'live' AND NOT EXISTS (
          SELECT FROM dead_letters l
          WHERE l.corpus = d.corpus AND l.doc_id = d.doc_id AND l.content_hash = d.content_hash
            AND (l.stage, l.subject) IN (('parse', %(parser)s), ('chunk', %(chunker)s),
                                         ('embed', %(embedder)s)))
        AND NOT EXISTS (
          SELECT FROM verdicts q
          WHERE q.corpus = d.corpus AND q.doc_id = d.doc_id AND q.content_hash = d.content_hash
            AND q.quarantined AND NOT q.released
            AND (q.stage, q.subject) IN (
                ('documents', %(parser)s), ('chunks', %(parser)s || ' ' || %(chunker)s),
                ('embeddings', %(parser)s || ' ' || %(chunker)s || ' ' || %(embedder)s)))
      THEN (s.bucket, s.content_hash, s.uri, s.title, s.acl)
           IS DISTINCT FROM (d.bucket, d.content_hash, d.uri, d.title, d.acl)
      ELSE s.doc_id IS NOT NULL AND (d.state IS NULL OR d.state = 'deleted') END
  OR s.checksum <> served_checksum(s.doc_id, s.content_hash, s.chunks, s.uri, s.title, s.acl)
  OR s.chunks <> (SELECT c.chunks FROM chunk_sets c WHERE c.content_hash = s.content_hash
                  AND c.parser = %(parser)s AND c.chunker = %(chunker)s)
  OR s.words <> (SELECT coalesce(sum(i.words), 0) FROM {index} i WHERE i.doc_id = s.doc_id)
ORDER BY subject;

-- name: rows
-- Of one bucket: a row a chunk, with its vector, for whom the document is.
SELECT s.doc_id AS subject
FROM indexed_documents s
WHERE s.generation = %(generation)s AND s.bucket = %(bucket)s
  AND NOT encode(s.content_hash, 'hex') = ANY (%(damaged)s)
  AND EXISTS (
    SELECT FROM (SELECT ord, text_hash FROM chunks
                 WHERE content_hash = s.content_hash AND parser = %(parser)s
                   AND chunker = %(chunker)s) c
    FULL JOIN (SELECT * FROM {index} WHERE doc_id = s.doc_id) i USING (ord)
    WHERE (i.bucket, i.acl, i.text_hash) IS DISTINCT FROM (s.bucket, s.acl, c.text_hash)
       OR i.words <> (SELECT coalesce(sum(p.frequency), 0) FROM {postings} p
                      WHERE p.doc_id = i.doc_id AND p.ord = i.ord)
       OR i.embedding <> (SELECT e.embedding::halfvec FROM embeddings e
                          WHERE e.scope = %(scope)s AND e.model = %(embedder)s
                            AND e.text_hash = c.text_hash
                            AND e.checksum = sha256(vector_send(e.embedding))))
ORDER BY subject;

-- name: postings
-- Of one bucket: the stems of headings and text, as they are analysed now.
WITH served AS MATERIALIZED (
    SELECT doc_id, content_hash FROM indexed_documents
    WHERE generation = %(generation)s AND bucket = %(bucket)s
      AND NOT encode(content_hash, 'hex') = ANY (%(damaged)s)
), expected AS MATERIALIZED (
    SELECT s.doc_id, c.ord, w.lexeme AS stem, cardinality(w.positions) AS frequency,
           sum(cardinality(w.positions)) OVER (PARTITION BY s.doc_id, c.ord) AS words
    FROM served s
    JOIN chunks c ON c.content_hash = s.content_hash AND c.parser = %(parser)s
                 AND c.chunker = %(chunker)s
    CROSS JOIN LATERAL unnest(to_tsvector(
        'english', array_to_string(c.heading_path, ' ') || ' ' || c.text)) w
    WHERE octet_length(w.lexeme) <= 500
), found AS MATERIALIZED (
    SELECT p.doc_id, p.ord, p.stem, p.frequency, p.words FROM served JOIN {postings} p USING (doc_id)
)
SELECT DISTINCT doc_id AS subject
FROM ((TABLE expected EXCEPT ALL TABLE found) UNION ALL (TABLE found EXCEPT ALL TABLE expected)) x
ORDER BY subject;

-- name: orphans
-- Rows and postings of documents that are not served.
SELECT doc_id AS subject FROM {index} i
WHERE NOT EXISTS (SELECT FROM indexed_documents s
                  WHERE s.generation = %(generation)s AND s.doc_id = i.doc_id)
UNION
SELECT doc_id FROM {postings} p
WHERE NOT EXISTS (SELECT FROM {index} i WHERE i.doc_id = p.doc_id AND i.ord = p.ord)
ORDER BY subject;

-- name: manifests
-- Buckets whose manifest is not the sum of what is served, or is ahead of what was written.
SELECT coalesce(m.bucket, s.bucket)::text AS subject
FROM (SELECT * FROM index_buckets WHERE generation = %(generation)s) m
FULL JOIN (SELECT bucket, count(*) AS documents, sum(chunks) AS chunks, sum(words) AS words,
                  bit_xor(checksum) AS checksum
           FROM indexed_documents WHERE generation = %(generation)s GROUP BY bucket) s USING (bucket)
LEFT JOIN buckets b ON b.corpus = %(corpus)s AND b.bucket = m.bucket
WHERE (coalesce(m.documents, 0), coalesce(m.chunks, 0), coalesce(m.words, 0), coalesce(m.checksum, 0))
      <> (coalesce(s.documents, 0), coalesce(s.chunks, 0), coalesce(s.words, 0),
          coalesce(s.checksum, 0))
   OR m.version > coalesce(b.version, 0)
ORDER BY coalesce(m.bucket, s.bucket);

-- name: contents_of_texts
-- Where the texts stand that a model is to be given again.
SELECT DISTINCT content_hash FROM chunks WHERE text_hash = ANY (%(hashes)s) ORDER BY content_hash;

-- name: lock_buckets
-- Of all documents with these contents, whatever their corpus, in one order.
SELECT FROM buckets b
WHERE (b.corpus, b.bucket) IN (
    SELECT corpus, bucket FROM documents WHERE content_hash = ANY (%(contents)s))
ORDER BY b.corpus, b.bucket FOR UPDATE;

-- name: raise_fences
-- A run that has found the damaged thing to be there must not build on it.
UPDATE buckets b SET version = b.version + 1, run_id = %(run_id)s,
                     epoch = CASE WHEN b.epoch > 0 THEN b.epoch + 1 ELSE 0 END
WHERE (b.corpus, b.bucket) IN (
    SELECT corpus, bucket FROM documents WHERE content_hash = ANY (%(contents)s));

-- name: touch_documents
-- They wait until all that they are made of is there again; their rows serve meanwhile.
UPDATE documents d SET version = b.version FROM buckets b
WHERE d.content_hash = ANY (%(contents)s) AND b.corpus = d.corpus AND b.bucket = d.bucket;

-- name: forget_sources
-- No hash vouches for what was read of them: the next run reads them again.
UPDATE documents SET source_hash = '' WHERE content_hash = ANY (%(contents)s) AND state = 'live';

-- name: hint_documents
-- Also a run that reads only what it was told of.
INSERT INTO hints AS h (corpus, doc_id, bucket)
SELECT corpus, doc_id, bucket FROM documents
WHERE content_hash = ANY (%(contents)s) AND state = 'live' ORDER BY corpus, doc_id
ON CONFLICT (corpus, doc_id) DO UPDATE SET seq = DEFAULT;

-- name: delete_texts
-- With what was cut from them.
DELETE FROM document_texts WHERE content_hash = ANY (%(contents)s);

-- name: delete_chunk_sets
-- With their chunks.
DELETE FROM chunk_sets WHERE content_hash = ANY (%(contents)s);

-- name: delete_embeddings
-- Only of the model whose vectors are damaged.
DELETE FROM embeddings
WHERE scope = %(scope)s AND model = %(embedder)s AND text_hash = ANY (%(hashes)s);

-- name: end_versions
-- Those that are not what their document is.
UPDATE document_versions v SET last_seen_at = now()
WHERE v.corpus = %(corpus)s AND v.doc_id = ANY (%(doc_ids)s) AND v.last_seen_at IS NULL
  AND NOT EXISTS (
    SELECT FROM documents d
    WHERE d.corpus = v.corpus AND d.doc_id = v.doc_id AND d.state = 'live'
      AND (d.content_hash, d.parser, d.uri) = (v.content_hash, v.parser, v.uri));

-- name: begin_versions
-- A live document has a current version.
INSERT INTO document_versions (corpus, doc_id, first_seen_at, content_hash, parser, uri, run_id,
                               code_version)
SELECT corpus, doc_id, clock_timestamp(), content_hash, parser, uri, %(run_id)s, %(code_version)s
FROM documents
WHERE corpus = %(corpus)s AND doc_id = ANY (%(doc_ids)s) AND state = 'live'
ON CONFLICT (corpus, doc_id) WHERE last_seen_at IS NULL DO NOTHING;

-- name: raise_counters
-- To the highest version of any document of theirs.
INSERT INTO buckets AS b (corpus, bucket, epoch, run_id, version)
SELECT corpus, bucket, 0, %(run_id)s, max(version) FROM documents
WHERE corpus = %(corpus)s GROUP BY corpus, bucket
ON CONFLICT (corpus, bucket) DO UPDATE SET version = excluded.version
WHERE b.version < excluded.version;
