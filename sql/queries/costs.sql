-- What was paid for.

-- name: add_costs
-- Adds to the lines of a run, its buckets, a generation, a stage and a model.
INSERT INTO costs AS c (run_id, corpus, bucket, generation, stage, model, provider, requests, texts,
                        tokens, usd, unit_price)
SELECT %(run_id)s, %(corpus)s, s.bucket, %(generation)s, %(stage)s, %(model)s,
       split_part(%(model)s, ':', 1), s.requests, s.texts, s.tokens,
       s.tokens * %(price)s::numeric / 1000000, %(price)s::numeric
FROM unnest(%(buckets)s::smallint[], %(requests)s::integer[], %(texts)s::integer[],
            %(tokens)s::bigint[]) s (bucket, requests, texts, tokens)
ORDER BY s.bucket
ON CONFLICT (run_id, corpus, bucket, generation, stage, model) DO UPDATE SET
    requests = c.requests + excluded.requests, texts = c.texts + excluded.texts,
    tokens = c.tokens + excluded.tokens, usd = c.usd + excluded.usd, last_at = now();
