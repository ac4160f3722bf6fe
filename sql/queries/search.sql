-- What the reader may ask, in one read-only transaction a request.

-- name: begin_request
-- Who asks, and how far an index is looked through: for this transaction only. Every scan goes on
-- until there are enough rows that may be seen.
SELECT set_config('rag_assets.principals', %(principals)s::text[]::text, true),
       set_config('hnsw.ef_search', %(ef_search)s::text, true),
       set_config('hnsw.iterative_scan', %(order)s, true),
       set_config('ivfflat.probes', %(probes)s::text, true),
       set_config('ivfflat.iterative_scan', 'relaxed_order', true),
       set_config('statement_timeout', '30s', true);

-- name: nearest
-- The dense leg, through a graph or exactly; no rows are forced through the graph, the planner may
-- choose the exact way.
SELECT doc_id, ord FROM {index} ORDER BY embedding <=> %(vector)s::halfvec LIMIT %(candidates)s;

-- name: nearest_in_lists
-- Where more lists are looked into than at first, what is in them may be nearer than what was found.
WITH near AS MATERIALIZED (
    SELECT doc_id, ord, embedding <=> %(vector)s::halfvec AS distance FROM {index}
    ORDER BY distance LIMIT %(candidates)s)
SELECT doc_id, ord FROM near ORDER BY distance + 0;

-- name: nearest_by_bits
-- More than are wanted by the bits alone, of which the nearest by the vectors.
WITH alike AS MATERIALIZED (
    SELECT doc_id, ord, embedding FROM {index}
    ORDER BY binary_quantize(embedding)::bit({bits})
             <~> binary_quantize(%(vector)s::halfvec)::bit({bits})
    LIMIT %(by_bits)s)
SELECT doc_id, ord FROM alike ORDER BY embedding <=> %(vector)s::halfvec LIMIT %(candidates)s;

-- name: nearest_of_all
-- Of the few rows that may be seen, all: without an order there is no graph to be walked through.
WITH visible AS MATERIALIZED (
    SELECT doc_id, ord, embedding <=> %(vector)s::halfvec AS distance FROM {index})
SELECT doc_id, ord FROM visible ORDER BY distance LIMIT %(candidates)s;

-- name: stems
-- The words of the question as the index knows them.
SELECT word, stem, chunks, visible, total FROM question_stems(%(generation)s, %(words)s);

-- name: matching
-- The lexical leg: exact BM25 over what the principals may see.
SELECT doc_id, ord, score FROM search_words(%(generation)s, %(stems)s, %(candidates)s);

-- name: candidates
-- All that a citation needs of the candidates of both legs, looked up one by one: a join with a
-- view that guards permissions would be made over all that may be seen.
SELECT s.doc_id, s.ord, s.title, s.uri, s.heading_path, s.text, s.start_char AS start,
       s.end_char AS "end", s.content_hash, s.run_id,
       1 - (s.embedding <=> %(vector)s::halfvec) AS dense
FROM unnest(%(doc_ids)s::text[], %(ords)s::integer[]) c (doc_id, ord)
CROSS JOIN LATERAL (SELECT * FROM {served} WHERE doc_id = c.doc_id AND ord = c.ord OFFSET 0) s;
