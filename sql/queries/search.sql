-- What the reader may ask, in one read-only transaction a request.

-- name: begin_request
-- Who asks, and how the graph is walked: for this transaction only.
SELECT set_config('rag_assets.principals', %(principals)s::text[]::text, true),
       set_config('hnsw.ef_search', %(ef_search)s::text, true),
       set_config('hnsw.iterative_scan', 'strict_order', true),
       set_config('statement_timeout', '30s', true);

-- name: nearest
-- The dense leg; no rows are forced through the graph, the planner may choose the exact way.
SELECT doc_id, ord FROM {index} ORDER BY embedding <=> %(vector)s::halfvec LIMIT %(candidates)s;

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
