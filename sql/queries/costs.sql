-- What was paid for.

-- name: spent
-- What models were asked for and what that cost, of one corpus or of all, put together by one thing.
SELECT corpus,
       CASE %(by)s WHEN 'run' THEN run_id WHEN 'model' THEN model WHEN 'provider' THEN provider
            WHEN 'bucket' THEN bucket::text WHEN 'generation' THEN generation::text
            ELSE to_char(last_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') END AS "of",
       sum(requests)::bigint AS requests, sum(texts)::bigint AS texts,
       sum(tokens)::bigint AS tokens, sum(usd) AS usd,
       coalesce(sum(CASE WHEN usd IS NULL THEN tokens WHEN unit_price > 0
                    THEN greatest(tokens - round(usd * 1000000 / unit_price), 0) END),
                0)::bigint AS tokens_unpriced,
       array_agg(DISTINCT unit_price ORDER BY unit_price)
           FILTER (WHERE unit_price IS NOT NULL) AS unit_prices,
       min(first_at) AS first_at, max(last_at) AS last_at
FROM costs
WHERE (%(corpus)s::text IS NULL OR corpus = %(corpus)s)
  AND (%(since)s::timestamptz IS NULL OR last_at >= %(since)s)
  AND (%(runs)s::text[] IS NULL OR run_id = ANY (%(runs)s))
GROUP BY 1, 2
ORDER BY corpus, CASE WHEN %(by)s = 'run' THEN max(last_at) END,
         CASE %(by)s WHEN 'bucket' THEN min(bucket) WHEN 'generation' THEN min(generation) END,
         "of";

-- name: add_costs
-- Adds to the lines of a run, its buckets, a generation, a stage and a model. Where a price was not
-- known at one time, a line keeps what is known; at two prices it has their mean.
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
    tokens = c.tokens + excluded.tokens,
    usd = coalesce(c.usd + excluded.usd, c.usd, excluded.usd),
    unit_price = CASE
        WHEN c.usd IS NULL OR excluded.usd IS NULL THEN coalesce(c.unit_price, excluded.unit_price)
        WHEN c.unit_price = excluded.unit_price THEN c.unit_price
        ELSE (c.usd + excluded.usd) * 1000000 / greatest(excluded.tokens
             + coalesce(c.usd * 1000000 / nullif(c.unit_price, 0), c.tokens), 1) END,
    last_at = now();

-- name: add_cost_of_questions
-- Adds to the line of a run: of no bucket and no generation. The price is what a token cost, read or
-- written.
INSERT INTO costs AS c (run_id, corpus, bucket, generation, stage, model, provider, requests, texts,
                        tokens, usd, unit_price)
VALUES (%(run_id)s, %(corpus)s, -1, 0, 'golden set', %(model)s, split_part(%(model)s, ':', 1), 1, 1,
        %(tokens)s::bigint, %(usd)s::numeric,
        %(usd)s::numeric * 1000000 / greatest(%(tokens)s::bigint, 1))
ON CONFLICT (run_id, corpus, bucket, generation, stage, model) DO UPDATE SET
    requests = c.requests + 1, texts = c.texts + 1, tokens = c.tokens + excluded.tokens,
    usd = coalesce(c.usd + excluded.usd, c.usd, excluded.usd),
    unit_price = CASE
        WHEN c.usd IS NULL OR excluded.usd IS NULL THEN coalesce(c.unit_price, excluded.unit_price)
        WHEN c.unit_price = excluded.unit_price THEN c.unit_price
        ELSE (c.usd + excluded.usd) * 1000000 / greatest(excluded.tokens
             + coalesce(c.usd * 1000000 / nullif(c.unit_price, 0), c.tokens), 1) END,
    last_at = now();
