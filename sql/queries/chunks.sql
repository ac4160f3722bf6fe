-- Cutting texts: only of documents that changed since they were served.

-- name: unchunked
-- Texts this chunker has not cut, of documents that changed since this generation last followed
-- their bucket; those that it cannot cut, or that are in quarantine, are left alone. In one order,
-- for the tables' sake. Each thing is looked up by its key: that few documents changed is nothing a
-- plan can know.
SELECT t.content_hash, t.parser, t.title, t.text, t.headings, t.pages, t.warnings
FROM (SELECT DISTINCT d.content_hash
      FROM unnest(%(buckets)s::smallint[]) b (bucket)
      LEFT JOIN index_buckets served ON served.generation = %(generation)s
                                    AND served.bucket = b.bucket
      CROSS JOIN LATERAL (
          SELECT doc_id, content_hash FROM documents
          WHERE corpus = %(corpus)s AND bucket = b.bucket
            AND version > coalesce(served.version, 0) AND state = 'live' OFFSET 0) d
      WHERE (SELECT 1 FROM chunk_sets c WHERE c.content_hash = d.content_hash
             AND c.parser = %(parser)s AND c.chunker = %(chunker)s) IS NULL
        AND NOT EXISTS (
            SELECT FROM dead_letters l
            WHERE l.corpus = %(corpus)s AND l.doc_id = d.doc_id AND l.stage = 'chunk'
              AND l.subject = %(chunker)s AND l.content_hash = d.content_hash)
        AND NOT EXISTS (
            SELECT FROM verdicts q
            WHERE q.corpus = %(corpus)s AND q.doc_id = d.doc_id AND q.content_hash = d.content_hash
              AND q.quarantined AND NOT q.released
              AND (q.stage, q.subject) = ('documents', %(parser)s))) changed
CROSS JOIN LATERAL (
    SELECT * FROM document_texts
    WHERE content_hash = changed.content_hash AND parser = %(parser)s OFFSET 0) t
ORDER BY changed.content_hash;

-- name: add_chunk_sets
-- Gives those that are new: a text that somebody has cut meanwhile, or erases, is left out.
INSERT INTO chunk_sets (content_hash, parser, chunker, chunks, run_id, code_version)
SELECT t.content_hash, t.parser, cut.chunker, cut.chunks, %(run_id)s, %(code_version)s
FROM unnest(%(content_hashes)s::bytea[], %(parsers)s::text[], %(chunkers)s::text[],
            %(chunks)s::integer[]) cut (content_hash, parser, chunker, chunks)
JOIN document_texts t USING (content_hash, parser)
ORDER BY t.content_hash, t.parser, cut.chunker
FOR KEY SHARE OF t SKIP LOCKED
ON CONFLICT DO NOTHING RETURNING content_hash, parser, chunker;

-- name: copy_chunks
-- Only behind the chunk sets that were just written, so that none can be there already.
COPY chunks (content_hash, parser, chunker, ord, start_char, end_char, heading_path, page, tokens,
             text_hash, text) FROM STDIN (FORMAT BINARY);

-- name: documents_with
-- The live documents of a corpus that have one of these contents.
SELECT doc_id, content_hash FROM documents
WHERE corpus = %(corpus)s AND state = 'live' AND content_hash = ANY (%(content_hashes)s)
ORDER BY doc_id;

-- name: count_chunks
-- For people: the chunks of the live documents of each of these buckets.
SELECT d.bucket, coalesce(sum(c.chunks), 0)::integer AS chunks
FROM documents d
LEFT JOIN chunk_sets c ON c.content_hash = d.content_hash AND c.parser = %(parser)s
                      AND c.chunker = %(chunker)s
WHERE d.corpus = %(corpus)s AND d.bucket = ANY (%(buckets)s) AND d.state = 'live'
GROUP BY d.bucket;

-- name: verify_chunks
-- Chunks that do not stand in their text where they say, of all, of those that some runs have cut,
-- or of those cut lately: there must be none.
SELECT d.doc_id, c.ord FROM documents d
JOIN document_texts t ON t.content_hash = d.content_hash AND t.parser = %(parser)s
JOIN chunk_sets s ON s.content_hash = t.content_hash AND s.parser = t.parser
                 AND s.chunker = %(chunker)s
JOIN chunks c ON c.content_hash = s.content_hash AND c.parser = s.parser AND c.chunker = s.chunker
WHERE d.corpus = %(corpus)s AND d.state = 'live'
  AND (%(runs)s::text[] IS NULL OR s.run_id = ANY (%(runs)s))
  AND s.created_at > coalesce(now() - %(within)s::interval, '-infinity')
  AND substr(t.text, c.start_char + 1, c.end_char - c.start_char) <> c.text
ORDER BY d.doc_id, c.ord LIMIT 20;
