-- Back from what is served to where it came from, and what one run has changed.

-- name: living
-- Whose generation it is, and how it was made; without a number, the published one.
SELECT g.corpus, g.generation, g.state, g.fingerprint, g.parser, g.chunker, g.embedder,
       g.published_at, k.scope
FROM generations g JOIN corpora k USING (corpus)
WHERE g.corpus = %(corpus)s
  AND g.state IN ('building', 'candidate', 'published', 'retired')
  AND CASE WHEN %(generation)s::integer IS NULL THEN g.state = 'published'
           ELSE g.generation = %(generation)s END;

-- name: served
-- What is served of the document, and the passage itself without its words.
SELECT s.bucket, s.content_hash, s.uri, s.title, s.acl, s.chunks, s.run_id, s.code_version,
       s.merged_at, c.start_char, c.end_char, c.heading_path, c.page, c.tokens, c.text_hash,
       t.run_id AS cut_by, t.code_version AS cut_with, t.created_at AS cut_at
FROM indexed_documents s
LEFT JOIN chunk_sets t ON t.content_hash = s.content_hash AND t.parser = %(parser)s
                      AND t.chunker = %(chunker)s
LEFT JOIN chunks c ON c.content_hash = t.content_hash AND c.parser = t.parser
                  AND c.chunker = t.chunker AND c.ord = %(ord)s
WHERE s.generation = %(generation)s AND s.doc_id = %(doc_id)s;

-- name: version
-- The version of the document that has this content: the last one, where it came back.
SELECT first_seen_at, last_seen_at, uri, run_id, code_version
FROM document_versions
WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s AND content_hash = %(content_hash)s
  AND parser = %(parser)s
ORDER BY first_seen_at DESC LIMIT 1;

-- name: observed
-- How the document stands today: what is cited may have been superseded.
SELECT state, content_hash = %(content_hash)s AS same_content, uri, observed_at, run_id, rev,
       source_hash
FROM documents WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s;

-- name: embedded
-- Who asked the model, and what that run paid it in all.
SELECT e.run_id, e.code_version, e.created_at,
       (SELECT sum(c.tokens) FROM costs c WHERE c.run_id = e.run_id AND c.model = e.model) AS tokens,
       (SELECT sum(c.usd) FROM costs c WHERE c.run_id = e.run_id AND c.model = e.model) AS usd
FROM embeddings e
WHERE e.scope = %(scope)s AND e.model = %(embedder)s AND e.text_hash = %(text_hash)s;

-- name: publication
-- Who let readers see this generation, if it is what they see.
SELECT run_id, code_version, reason, published_at FROM published_index
WHERE corpus = %(corpus)s AND generation = %(generation)s;

-- name: versions_of_buckets
-- Before a run writes: what it writes will have a higher version.
SELECT bucket, version FROM buckets WHERE corpus = %(corpus)s AND bucket = ANY (%(buckets)s);

-- name: changed_by
-- What a run has made of the documents of its buckets: how many, and the first of them by name. It
-- reads what is newer than the versions before the run, and nothing else.
SELECT bucket, change, count(*) AS documents,
       (array_agg(doc_id ORDER BY doc_id) FILTER (WHERE place <= %(named)s)) AS doc_ids
FROM (
    SELECT w.*, row_number() OVER (PARTITION BY bucket, change ORDER BY doc_id) AS place
    FROM (
        SELECT d.bucket, d.doc_id, CASE
                   WHEN d.state = 'deleted' THEN 'deleted'
                   WHEN d.state = 'dead' THEN 'dead'
                   WHEN v.run_id IS DISTINCT FROM %(run_id)s THEN 'described'
                   WHEN p.doc_id IS NULL THEN 'added'
                   WHEN (p.content_hash, p.parser) = (v.content_hash, v.parser) THEN 'described'
                   ELSE 'changed' END AS change
        FROM unnest(%(buckets)s::smallint[], %(versions)s::bigint[]) b (bucket, version)
        CROSS JOIN LATERAL (
            SELECT doc_id, bucket, state, observed_at FROM documents
            WHERE corpus = %(corpus)s AND bucket = b.bucket AND version > b.version
              AND run_id = %(run_id)s OFFSET 0) d
        LEFT JOIN document_versions v ON v.corpus = %(corpus)s AND v.doc_id = d.doc_id
                                     AND v.last_seen_at IS NULL
        LEFT JOIN LATERAL (
            SELECT o.* FROM document_versions o
            WHERE o.corpus = %(corpus)s AND o.doc_id = d.doc_id AND o.last_seen_at = d.observed_at
            ORDER BY o.first_seen_at DESC LIMIT 1) p ON true) w) numbered
GROUP BY bucket, change ORDER BY bucket, change;

-- name: cost_of_run
-- What a run asked of each model for a corpus.
SELECT generation, model, sum(requests)::integer AS requests, sum(texts)::integer AS texts,
       sum(tokens)::bigint AS tokens, sum(usd) AS usd FROM costs
WHERE run_id = %(run_id)s AND corpus = %(corpus)s GROUP BY generation, model
ORDER BY generation, model;
