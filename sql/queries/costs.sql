-- What was paid for.

-- name: add_cost
-- Adds to the line of a run, a bucket, a generation, a stage and a model.
INSERT INTO costs AS c (run_id, corpus, bucket, generation, stage, model, provider, requests, texts,
                        tokens, usd, unit_price)
VALUES (%(run_id)s, %(corpus)s, -1, %(generation)s, %(stage)s, %(model)s,
        split_part(%(model)s, ':', 1), %(requests)s, %(texts)s, %(tokens)s,
        %(tokens)s::bigint * %(price)s::numeric / 1000000, %(price)s::numeric)
ON CONFLICT (run_id, corpus, bucket, generation, stage, model) DO UPDATE SET
    requests = c.requests + excluded.requests, texts = c.texts + excluded.texts,
    tokens = c.tokens + excluded.tokens, usd = c.usd + excluded.usd, last_at = now();
