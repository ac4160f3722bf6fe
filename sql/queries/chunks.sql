-- Cutting texts: only what a generation does not serve yet.

-- name: unchunked
-- Texts of live documents that this generation's chunker has not cut.
SELECT DISTINCT ON (t.content_hash) t.content_hash, t.parser, t.title, t.text, t.headings, t.pages, t.warnings
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

-- name: verify_chunks
-- Chunks that do not stand in their text where they say: there must be none.
SELECT d.doc_id, c.ord FROM documents d
JOIN document_texts t ON t.content_hash = d.content_hash AND t.parser = %(parser)s
JOIN chunks c ON c.content_hash = t.content_hash AND c.parser = t.parser AND c.chunker = %(chunker)s
WHERE d.corpus = %(corpus)s AND d.state = 'live'
  AND substr(t.text, c.start_char + 1, c.end_char - c.start_char) <> c.text
ORDER BY d.doc_id, c.ord LIMIT 20;
