-- What each stage of a bucket has failed with since it last succeeded.

-- name: record
-- One row a bucket, however often it fails; a corpus that is not registered yet has no place for it.
INSERT INTO failures AS f (corpus, stage, generation, bucket, error, reason, run_id)
SELECT k.corpus, %(stage)s, %(generation)s, b.bucket, %(error)s, %(reason)s, %(run_id)s
FROM corpora k, unnest(%(buckets)s::smallint[]) b (bucket)
WHERE k.corpus = %(corpus)s
ORDER BY b.bucket
ON CONFLICT (corpus, stage, generation, bucket) DO UPDATE
SET error = excluded.error, reason = excluded.reason, run_id = excluded.run_id,
    attempts = f.attempts + 1, last_at = now();

-- name: clear
-- The stage, but for generations that have just failed. Nothing is written where nothing had.
DELETE FROM failures
WHERE corpus = %(corpus)s AND stage = %(stage)s AND generation <> ALL (%(but_for)s::integer[])
  AND bucket = ANY (%(buckets)s::smallint[]);

-- name: open
-- Of one corpus, or of all, the longest first.
SELECT corpus, stage, generation, bucket, error, reason, attempts, since, last_at, run_id
FROM failures
WHERE %(corpus)s::text IS NULL OR corpus = %(corpus)s
ORDER BY since, corpus, stage, generation, bucket;
