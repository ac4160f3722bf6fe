-- Sources that are watched, and what waits to be looked at in them.

-- name: awaited
-- All that a look at the source needs to know, at once: a row a bucket that has a hint or a dead
-- letter that is due, or one row without a bucket.
SELECT c.created_at, (SELECT coalesce(sum(b.epoch), 0)::bigint FROM buckets b
                      WHERE b.corpus = c.corpus) AS epochs,
       w.bucket, w.hint, w.due
FROM corpora c
LEFT JOIN (SELECT bucket, max(seq) AS hint, NULL::timestamptz AS due FROM hints
           WHERE corpus = %(corpus)s GROUP BY bucket
           UNION ALL
           SELECT bucket, NULL, max(retry_at) FROM dead_letters
           WHERE corpus = %(corpus)s AND retry_at <= now() AND NOT dropped GROUP BY bucket) w ON true
WHERE c.corpus = %(corpus)s;

-- name: listed
-- Ends a failure. Written when something changes, else once a minute: a source may be listed often.
INSERT INTO sources AS s (corpus, listed_at, objects)
SELECT corpus, now(), %(objects)s::integer FROM corpora WHERE corpus = %(corpus)s
ON CONFLICT (corpus) DO UPDATE
SET listed_at = now(), objects = coalesce(excluded.objects, s.objects),
    failing_since = NULL, failed_at = NULL, error = NULL
WHERE s.failing_since IS NOT NULL OR s.listed_at IS NULL OR s.objects <> excluded.objects
   OR (s.objects IS NULL AND excluded.objects IS NOT NULL)
   OR s.listed_at < now() - interval '1 minute';

-- name: failed
-- Keeps since when. Written when the error changes, else once a minute.
INSERT INTO sources AS s (corpus, failing_since, failed_at, error)
SELECT corpus, now(), now(), %(error)s FROM corpora WHERE corpus = %(corpus)s
ON CONFLICT (corpus) DO UPDATE
SET failing_since = coalesce(s.failing_since, now()), failed_at = now(), error = excluded.error
WHERE s.error IS DISTINCT FROM excluded.error OR s.failed_at < now() - interval '1 minute';

-- name: standing
-- For checks and for people.
SELECT listed_at, objects, failing_since, failed_at, error FROM sources WHERE corpus = %(corpus)s;
