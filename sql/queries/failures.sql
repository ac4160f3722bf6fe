-- What each stage of a bucket has failed with since it last succeeded.

-- name: record
-- One row a bucket, however often it fails; a corpus that is not registered yet has no place for it.
INSERT INTO failures AS f (corpus, stage, generation, bucket, error, reason, run_id)
SELECT k.corpus, %(stage)s, 0, b.bucket, %(error)s, %(reason)s, %(run_id)s
FROM corpora k, unnest(%(buckets)s::smallint[]) b (bucket)
WHERE k.corpus = %(corpus)s
ORDER BY b.bucket
ON CONFLICT (corpus, stage, generation, bucket) DO UPDATE
SET error = excluded.error, reason = excluded.reason, run_id = excluded.run_id,
    attempts = f.attempts + 1, last_at = now();

-- name: clear
-- The stage and its parts, but for those that have just failed. Nothing is written where nothing had.
DELETE FROM failures
WHERE corpus = %(corpus)s AND (stage = %(stage)s OR starts_with(stage, %(stage)s || ' of '))
  AND stage <> ALL (%(but_for)s::text[]) AND bucket = ANY (%(buckets)s::smallint[]);

-- name: open
-- Of one corpus, or of all, the longest first.
SELECT corpus, stage, bucket, error, reason, attempts, since, last_at, run_id FROM failures
WHERE %(corpus)s::text IS NULL OR corpus = %(corpus)s
ORDER BY since, corpus, stage, bucket;
