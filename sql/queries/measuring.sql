-- What is measured of whole generations: their size, their rows, what is found, their vectors.

-- name: measure
-- Only when it is another than before.
INSERT INTO index_sizes (generation, documents, chunks)
SELECT g.generation, m.documents, m.chunks
FROM generations g
CROSS JOIN LATERAL (
    SELECT coalesce(sum(documents), 0) AS documents, coalesce(sum(chunks), 0) AS chunks
    FROM index_buckets WHERE generation = g.generation) m
WHERE g.generation = %(generation)s AND g.state IN ('candidate', 'published', 'retired')
  AND NOT EXISTS (
      SELECT FROM (SELECT documents, chunks FROM index_sizes
                   WHERE generation = g.generation ORDER BY measured_at DESC LIMIT 1) s
      WHERE (s.documents, s.chunks) = (m.documents, m.chunks))
ON CONFLICT DO NOTHING;

-- name: sizes
-- Of each generation that can be read: its size, and its greatest within a day; what it was before
-- somebody approved of deletions does not count.
SELECT g.generation, m.documents, m.chunks, coalesce(most.documents, m.documents) AS most_documents,
       coalesce(most.chunks, m.chunks) AS most_chunks
FROM generations g
JOIN corpora k ON k.corpus = g.corpus
CROSS JOIN LATERAL (
    SELECT coalesce(sum(documents), 0)::integer AS documents,
           coalesce(sum(chunks), 0)::integer AS chunks
    FROM index_buckets WHERE generation = g.generation) m
CROSS JOIN LATERAL (
    SELECT max(s.documents) AS documents, max(s.chunks) AS chunks FROM index_sizes s
    WHERE s.generation = g.generation
      AND s.measured_at > coalesce(k.judged_since, '-infinity')
      AND s.measured_at >= coalesce((
          SELECT max(b.measured_at) FROM index_sizes b
          WHERE b.generation = g.generation AND b.measured_at <= now() - interval '1 day'),
          '-infinity')) most
WHERE g.corpus = %(corpus)s AND g.state IN ('candidate', 'published', 'retired')
ORDER BY g.generation;

-- name: lost_rows
-- In buckets that were merged lately: documents with fewer or more rows than they are to have.
SELECT doc_id, coalesce(s.chunks, 0) AS wanted, coalesce(i.found, 0) AS found,
       s.doc_id IS NULL AS orphan
FROM (SELECT doc_id, chunks FROM indexed_documents
      WHERE generation = %(generation)s AND bucket IN (
          SELECT bucket FROM index_buckets WHERE generation = %(generation)s
            AND merged_at > coalesce(now() - %(within)s::interval, '-infinity'))) s
FULL JOIN (SELECT doc_id, count(*)::integer AS found FROM {index}
           WHERE bucket IN (
               SELECT bucket FROM index_buckets WHERE generation = %(generation)s
                 AND merged_at > coalesce(now() - %(within)s::interval, '-infinity'))
           GROUP BY doc_id) i USING (doc_id)
WHERE coalesce(s.chunks, 0) <> coalesce(i.found, 0)
ORDER BY doc_id LIMIT %(limit)s;

-- name: lost_rows_of_runs
-- The same for the documents that some runs merged, and those that they saw to be gone.
SELECT w.doc_id, coalesce(w.chunks, 0) AS wanted, i.found, w.chunks IS NULL AS orphan
FROM (
    SELECT doc_id, chunks FROM indexed_documents
    WHERE generation = %(generation)s AND run_id = ANY (%(runs)s)
    UNION ALL
    SELECT d.doc_id, NULL FROM documents d
    WHERE d.corpus = %(corpus)s AND d.state = 'deleted' AND d.run_id = ANY (%(runs)s)
      AND d.observed_at > now() - interval '1 day'
      AND NOT EXISTS (SELECT FROM indexed_documents s
                      WHERE s.generation = %(generation)s AND s.doc_id = d.doc_id)) w
CROSS JOIN LATERAL (SELECT count(*)::integer AS found FROM {index} WHERE doc_id = w.doc_id) i
WHERE coalesce(w.chunks, 0) <> i.found
ORDER BY w.doc_id LIMIT %(limit)s;

-- name: found_by
-- Whether there is an index to be looked through.
SELECT EXISTS (
    SELECT FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am a ON a.oid = c.relam
    WHERE x.indrelid = to_regclass('rag_assets.' || %(table)s) AND a.amname IN ('hnsw', 'ivfflat')
      AND x.indisvalid) AS there;

-- name: look_through
-- As readers do, but never the exact way: it is the index that is to be judged.
SELECT set_config('hnsw.ef_search', %(ef_search)s::text, true),
       set_config('hnsw.iterative_scan', %(order)s, true),
       set_config('ivfflat.probes', %(probes)s::text, true),
       set_config('ivfflat.iterative_scan', 'relaxed_order', true),
       set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true),
       set_config('enable_indexscan', 'on', true);

-- name: look_at_all
-- The exact way.
SELECT set_config('enable_seqscan', 'on', true), set_config('enable_sort', 'on', true),
       set_config('enable_indexscan', 'off', true);

-- name: nearest
-- The distances of the nearest rows to some of the rows, which are always the same.
WITH asked AS MATERIALIZED (
    SELECT doc_id, ord, embedding FROM {index} ORDER BY text_hash, doc_id, ord LIMIT %(questions)s
)
SELECT a.doc_id, a.ord, (SELECT array_agg(n.distance) FROM (
    SELECT i.embedding <=> a.embedding AS distance FROM {index} i
    ORDER BY i.embedding <=> a.embedding LIMIT %(wanted)s) n) AS distances
FROM asked a;

-- name: nearest_by_bits
-- The same of those that are nearest by their bits.
WITH asked AS MATERIALIZED (
    SELECT doc_id, ord, embedding FROM {index} ORDER BY text_hash, doc_id, ord LIMIT %(questions)s
)
SELECT a.doc_id, a.ord, (SELECT array_agg(n.distance) FROM (
    SELECT alike.embedding <=> a.embedding AS distance FROM (
        SELECT i.embedding FROM {index} i
        ORDER BY binary_quantize(i.embedding)::bit({bits})
                 <~> binary_quantize(a.embedding)::bit({bits})
        LIMIT %(by_bits)s) alike
    ORDER BY alike.embedding <=> a.embedding LIMIT %(wanted)s) n) AS distances
FROM asked a;

-- name: sameness
-- How alike the vectors of different texts are: texts in the order of their hashes are a fair
-- sample. The mean of all vectors is long where they point the same way.
SELECT count(*)::integer AS texts, count(DISTINCT embedding)::integer AS vectors,
       coalesce(power(vector_norm(avg(l2_normalize(embedding))), 2), 0) AS likeness
FROM (SELECT embedding FROM embeddings
      WHERE scope = (SELECT scope FROM corpora WHERE corpus = %(corpus)s) AND model = %(embedder)s
      ORDER BY text_hash LIMIT %(questions)s) e
WHERE vector_dims(embedding) = %(dimensions)s AND vector_norm(embedding) > 0;

-- name: lengths
-- Of all chunks that are served; short ones count where a document has several.
SELECT count(*)::integer AS chunks, coalesce(min(chars), 0) AS shortest,
       coalesce((percentile_disc(0.05) WITHIN GROUP (ORDER BY chars)), 0) AS low,
       coalesce((percentile_disc(0.5) WITHIN GROUP (ORDER BY chars)), 0) AS median,
       coalesce((percentile_disc(0.95) WITHIN GROUP (ORDER BY chars)), 0) AS high,
       coalesce(max(chars), 0) AS longest,
       (count(*) FILTER (WHERE several))::integer AS of_several,
       (count(*) FILTER (WHERE several AND chars < %(few_chars)s))::integer AS short
FROM (SELECT length(c.text) AS chars, s.chunks > 1 AS several
      FROM indexed_documents s
      JOIN chunks c ON c.content_hash = s.content_hash AND c.parser = %(parser)s
                   AND c.chunker = %(chunker)s
      WHERE s.generation = %(generation)s) l;
