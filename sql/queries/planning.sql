-- What a run would find to do. Every session that asks this can write nothing.

-- name: due
-- Texts of documents that changed since a generation last followed their bucket, and of the contents
-- that a look at the source has found; but for documents that the look has found changed or gone.
-- Each once, with its words where the model has never seen it. What the model refuses, or a rule
-- keeps out, is left out. Generation 0 is one that is not there yet. Each thing is looked up by its
-- key, as in the run itself.
SELECT DISTINCT ON (c.text_hash) c.text_hash,
       CASE WHEN e.text_hash IS NULL THEN c.text END AS text,
       CASE WHEN e.text_hash IS NULL THEN c.heading_path END AS heading_path
FROM (
    SELECT d.content_hash
    FROM buckets b
    LEFT JOIN index_buckets served ON served.generation = %(generation)s AND served.bucket = b.bucket
    CROSS JOIN LATERAL (
        SELECT doc_id, content_hash FROM documents
        WHERE corpus = %(corpus)s AND bucket = b.bucket AND version > coalesce(served.version, 0)
          AND state = 'live' OFFSET 0) d
    WHERE b.corpus = %(corpus)s
      AND NOT EXISTS (SELECT FROM unnest(%(without)b::text[]) w (doc_id) WHERE w.doc_id = d.doc_id)
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
    UNION ALL
    SELECT unnest(%(contents)b::bytea[])) t
CROSS JOIN LATERAL (
    SELECT * FROM chunks WHERE content_hash = t.content_hash AND parser = %(parser)s
    AND chunker = %(chunker)s OFFSET 0) c
LEFT JOIN LATERAL (
    SELECT text_hash FROM embeddings
    WHERE scope = %(scope)s AND model = %(embedder)s AND text_hash = c.text_hash OFFSET 0) e ON true
ORDER BY c.text_hash;

-- name: uncut
-- Stored texts of the same documents and contents that a chunker has not cut.
SELECT t.content_hash, t.parser, t.title, t.text, t.headings, t.pages, t.warnings
FROM (SELECT DISTINCT d.content_hash
      FROM (
          SELECT d.content_hash
          FROM buckets b
          LEFT JOIN index_buckets served ON served.generation = %(generation)s
                                        AND served.bucket = b.bucket
          CROSS JOIN LATERAL (
              SELECT doc_id, content_hash FROM documents
              WHERE corpus = %(corpus)s AND bucket = b.bucket
                AND version > coalesce(served.version, 0) AND state = 'live' OFFSET 0) d
          WHERE b.corpus = %(corpus)s
            AND NOT EXISTS (SELECT FROM unnest(%(without)b::text[]) w (doc_id)
                            WHERE w.doc_id = d.doc_id)
            AND NOT EXISTS (
                SELECT FROM dead_letters l
                WHERE l.corpus = %(corpus)s AND l.doc_id = d.doc_id AND l.stage = 'chunk'
                  AND l.subject = %(chunker)s AND l.content_hash = d.content_hash)
            AND NOT EXISTS (
                SELECT FROM verdicts q
                WHERE q.corpus = %(corpus)s AND q.doc_id = d.doc_id
                  AND q.content_hash = d.content_hash AND q.quarantined AND NOT q.released
                  AND (q.stage, q.subject) = ('documents', %(parser)s))
          UNION ALL
          SELECT unnest(%(contents)b::bytea[])) d
      WHERE (SELECT 1 FROM chunk_sets c WHERE c.content_hash = d.content_hash
             AND c.parser = %(parser)s AND c.chunker = %(chunker)s) IS NULL) changed
CROSS JOIN LATERAL (
    SELECT * FROM document_texts
    WHERE content_hash = changed.content_hash AND parser = %(parser)s OFFSET 0) t;

-- name: embedded
-- Those of these texts that a model has seen.
SELECT e.text_hash FROM unnest(%(text_hashes)b::bytea[]) t (text_hash)
CROSS JOIN LATERAL (
    SELECT text_hash FROM embeddings
    WHERE scope = %(scope)s AND model = %(embedder)s AND text_hash = t.text_hash OFFSET 0) e;

-- name: experience
-- What a model has billed before, and how fast its runs of more than a moment went: the latest.
SELECT sum(tokens)::bigint AS tokens, sum(texts)::bigint AS texts,
       sum(tokens) FILTER (WHERE seconds >= 2)::bigint AS timed_tokens,
       sum(seconds) FILTER (WHERE seconds >= 2)::float AS seconds
FROM (SELECT sum(tokens) AS tokens, sum(texts) AS texts,
             extract(epoch FROM max(last_at) - min(first_at)) AS seconds
      FROM costs WHERE model = %(embedder)s AND texts > 0
      GROUP BY run_id ORDER BY max(last_at) DESC LIMIT 20) run;

-- name: bytes_a_text
-- Of some texts that this model has embedded.
SELECT avg(octet_length(c.text) + octet_length(array_to_string(c.heading_path, ' > ')) + 1)::float
           AS bytes
FROM (SELECT text_hash FROM embeddings WHERE scope = %(scope)s AND model = %(embedder)s
      LIMIT 500) e
CROSS JOIN LATERAL (SELECT * FROM chunks WHERE text_hash = e.text_hash LIMIT 1) c;
