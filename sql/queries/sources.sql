-- Sources that are watched, and what waits to be looked at in them.

-- name: awaited
-- All that a look at the source needs to know, at once: a row a bucket that has a hint, a dead letter
-- that is due, a generation for which a stage is to be tried again or deletions that somebody has
-- approved, or one row without a bucket. A stage that failed for one generation alone is tried again
-- ever more slowly, then once a day.
SELECT c.created_at, (SELECT array_agg(ARRAY[b.bucket, b.looked]) FROM buckets b
                      WHERE b.corpus = c.corpus AND b.looked IS NOT NULL) AS looked,
       w.bucket, w.hint, w.due, s.listed_at, s.objects, s.failing_since, s.failed_at, s.error
FROM corpora c
LEFT JOIN sources s USING (corpus)
LEFT JOIN (SELECT bucket, max(seq) AS hint, NULL::timestamptz AS due FROM hints
           WHERE corpus = %(corpus)s GROUP BY bucket
           UNION ALL
           SELECT bucket, NULL, max(retry_at) FROM dead_letters
           WHERE corpus = %(corpus)s AND retry_at <= now() AND NOT dropped GROUP BY bucket
           UNION ALL
           SELECT bucket, NULL, max(t.due) FROM failures
           CROSS JOIN LATERAL (
               SELECT last_at + interval '1 second' * CASE
                   WHEN attempts <= %(attempts)s::integer
                   THEN least(%(retry_after_s)s::float * 2 ^ least(attempts - 1, 60), 86400)
                   ELSE 86400 END AS due) t
           WHERE corpus = %(corpus)s AND bucket >= 0
             AND generation > 0 AND %(attempts)s::integer > 0 AND t.due <= now() GROUP BY bucket
           UNION ALL
           SELECT bucket, NULL, max(approved_at) FROM withheld_deletions JOIN corpora USING (corpus)
           WHERE corpus = %(corpus)s AND deletions_approved > 0
             AND approved_at > now() - interval '24 hours' GROUP BY bucket) w ON true
WHERE c.corpus = %(corpus)s;

-- name: listed
-- Ends a failure. How many objects there are is not known of one that was only heard.
INSERT INTO sources AS s (corpus, listed_at, objects)
SELECT corpus, now(), %(objects)s::integer FROM corpora WHERE corpus = %(corpus)s
ON CONFLICT (corpus) DO UPDATE
SET listed_at = now(), objects = coalesce(excluded.objects, s.objects),
    failing_since = NULL, failed_at = NULL, error = NULL;

-- name: failed
-- Keeps since when.
INSERT INTO sources AS s (corpus, failing_since, failed_at, error)
SELECT corpus, now(), now(), %(error)s FROM corpora WHERE corpus = %(corpus)s
ON CONFLICT (corpus) DO UPDATE
SET failing_since = coalesce(s.failing_since, now()), failed_at = now(), error = excluded.error;

-- name: standing
-- For checks and for people.
SELECT listed_at, objects, failing_since, failed_at, error FROM sources WHERE corpus = %(corpus)s;
