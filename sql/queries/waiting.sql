-- What of a corpus is not served as it is at the source, and what the pipeline does about it.

-- name: backlog
-- Of each cause the change that has waited longest, and how many there are. What waits is what would
-- be merged; that cannot be processed, is in quarantine or is not believed has a cause of its own.
-- What only another generation cannot process, or fails of, is served. A document that changed again while it
-- waited has waited since it first differed.
WITH published AS MATERIALIZED (
    SELECT g.* FROM published_index p JOIN generations g USING (generation)
    WHERE p.corpus = %(corpus)s
), failing AS MATERIALIZED (
    SELECT DISTINCT ON (f.bucket) f.bucket, f.since, f.stage || ': ' || f.reason AS reason
    FROM failures f JOIN corpora k USING (corpus)
    WHERE f.corpus = %(corpus)s AND f.bucket BETWEEN 0 AND k.buckets - 1
      AND f.stage IN ('raw_documents', 'chunks', 'embeddings', 'vector_index')
      AND (f.generation = 0 OR NOT EXISTS (
          SELECT FROM published p WHERE p.generation <> f.generation))
    ORDER BY f.bucket, f.since
), changed AS MATERIALIZED (
    SELECT d.doc_id, d.bucket, least(d.observed_at, (
               SELECT min(v.first_seen_at) FROM document_versions v
               WHERE v.corpus = d.corpus AND v.doc_id = d.doc_id AND v.first_seen_at > s.merged_at)
           ) AS since
    FROM published g
    JOIN buckets b USING (corpus)
    LEFT JOIN index_buckets m ON m.generation = g.generation AND m.bucket = b.bucket
    CROSS JOIN LATERAL (
        SELECT * FROM documents
        WHERE corpus = b.corpus AND bucket = b.bucket AND version > coalesce(m.version, 0)
        OFFSET 0) d
    LEFT JOIN indexed_documents s ON s.generation = g.generation AND s.doc_id = d.doc_id
    WHERE CASE
        WHEN d.state <> 'live' OR EXISTS (
            SELECT FROM dead_letters l
            WHERE l.corpus = d.corpus AND l.doc_id = d.doc_id AND l.content_hash = d.content_hash
              AND (l.stage, l.subject) IN (('parse', g.parser), ('chunk', g.chunker),
                                           ('embed', g.embedder))
              AND NOT EXISTS (
                  SELECT FROM chunk_sets n WHERE n.content_hash = l.content_hash
                  AND n.parser = g.parser AND n.chunker = g.chunker
                  AND n.created_at > l.last_seen_at))
            OR EXISTS (
            SELECT FROM verdicts q
            WHERE q.corpus = d.corpus AND q.doc_id = d.doc_id AND q.content_hash = d.content_hash
              AND q.quarantined AND NOT q.released
              AND (q.stage, q.subject) IN (
                  ('documents', g.parser), ('chunks', g.parser || ' ' || g.chunker),
                  ('embeddings', g.parser || ' ' || g.chunker || ' ' || g.embedder)))
        THEN s.doc_id IS NOT NULL
        ELSE (s.content_hash, s.uri, s.title, s.acl)
             IS DISTINCT FROM (d.content_hash, d.uri, d.title, d.acl) END
), waits (cause, doc_id, bucket, since, reason) AS (
    SELECT 'not published', NULL::text, NULL::smallint, k.created_at, '' FROM corpora k
    WHERE k.corpus = %(corpus)s AND NOT EXISTS (SELECT FROM published)
    UNION ALL
    SELECT 'not seen yet', h.doc_id, h.bucket, h.first_seen_at, '' FROM hints h
    WHERE h.corpus = %(corpus)s
    UNION ALL
    SELECT 'not seen yet', NULL, b.bucket, b.recorded_at, '' FROM published g
    JOIN buckets b USING (corpus) WHERE b.epoch = 0
    UNION ALL
    SELECT CASE WHEN f.bucket IS NULL THEN 'waiting' ELSE 'failing' END, c.doc_id, c.bucket, c.since,
           coalesce(f.reason, '')
    FROM changed c LEFT JOIN failing f USING (bucket)
    UNION ALL
    SELECT 'failing', NULL, f.bucket, f.since, f.reason FROM failing f
    UNION ALL
    SELECT 'withheld', w.doc_id, w.bucket, w.since, w.reason FROM withheld_deletions w
    WHERE w.corpus = %(corpus)s
    UNION ALL
    SELECT 'quarantined', q.doc_id, q.bucket, min(q.first_seen_at), string_agg(DISTINCT q.rule, ', ')
    FROM published g
    JOIN verdicts q USING (corpus) JOIN documents d USING (corpus, doc_id, content_hash)
    WHERE q.quarantined AND NOT q.released AND d.state = 'live'
      AND (q.stage, q.subject) IN (
          ('documents', g.parser), ('chunks', g.parser || ' ' || g.chunker),
          ('embeddings', g.parser || ' ' || g.chunker || ' ' || g.embedder))
    GROUP BY q.doc_id, q.bucket
    UNION ALL
    SELECT 'dead letter', l.doc_id, l.bucket, min(l.first_seen_at), min(l.reason)
    FROM published g JOIN dead_letters l USING (corpus)
    WHERE NOT l.dropped
      AND (l.stage = 'read' OR (l.stage, l.subject) IN (
          ('parse', g.parser), ('chunk', g.chunker), ('embed', g.embedder)))
    GROUP BY l.doc_id, l.bucket
)
SELECT DISTINCT ON (cause) cause, doc_id, bucket, reason,
       greatest(extract(epoch FROM now() - since), 0)::float AS age_s,
       greatest(count(doc_id) OVER (PARTITION BY cause), 1) AS changes
FROM waits ORDER BY cause, since, doc_id;

-- name: published
-- What readers search.
SELECT generation FROM published_index WHERE corpus = %(corpus)s;

-- name: idle
-- While nothing is published: for how long nothing has come of the first build. It is over with the
-- first scores: whatever is merged after them, a candidate that is refused comes no nearer to readers.
WITH newest AS MATERIALIZED (
    SELECT * FROM generations
    WHERE corpus = %(corpus)s AND state IN ('building', 'candidate', 'published', 'retired')
    ORDER BY generation DESC LIMIT 1
)
SELECT greatest(extract(epoch FROM now() - coalesce(
           (SELECT min(scored_at) FROM newest JOIN evaluations USING (generation)),
           (SELECT now() FROM newest g JOIN pg_stat_progress_create_index p
                ON p.relid = to_regclass('index_' || g.generation)),
           greatest(
               k.created_at,
               (SELECT created_at FROM newest),
               (SELECT max(observed_at) FROM documents WHERE corpus = %(corpus)s),
               (SELECT max(s.created_at) FROM newest g JOIN documents d USING (corpus)
                JOIN chunk_sets s ON s.content_hash = d.content_hash AND s.parser = g.parser
                                 AND s.chunker = g.chunker),
               (SELECT max(last_at) FROM costs WHERE corpus = %(corpus)s),
               (SELECT max(merged_at) FROM newest JOIN index_buckets USING (generation))))), 0)::float
           AS idle_s
FROM corpora k WHERE k.corpus = %(corpus)s;

-- name: measure
-- How the published generation stands; what was written to it within an hour is looked for only in
-- buckets that were merged since.
SELECT coalesce(sum(m.documents), 0)::integer AS documents,
       coalesce(sum(m.chunks), 0)::integer AS chunks,
       coalesce(sum((SELECT count(*) FROM indexed_documents s
                     WHERE s.generation = m.generation AND s.bucket = m.bucket
                       AND s.merged_at > now() - interval '1 hour'
                       AND m.merged_at > now() - interval '1 hour')), 0)::float AS documents_an_hour,
       (SELECT count(DISTINCT doc_id) FROM (
            SELECT doc_id FROM dead_letters WHERE corpus = %(corpus)s AND NOT dropped
            UNION ALL
            SELECT q.doc_id FROM verdicts q JOIN documents d USING (corpus, doc_id, content_hash)
            WHERE q.corpus = %(corpus)s AND q.quarantined AND NOT q.released
              AND d.state = 'live') bad)::integer AS failed,
       (SELECT coalesce(sum(attempts), 0) FROM failures
        WHERE corpus = %(corpus)s AND stage = 'embeddings')::integer
       + (SELECT coalesce(sum(attempts), 0) FROM dead_letters
          WHERE corpus = %(corpus)s AND stage = 'embed' AND NOT dropped)::integer
           AS provider_errors,
       (SELECT coalesce(sum(tokens), 0) FROM costs
        WHERE corpus = %(corpus)s AND last_at > now() - interval '1 day')::bigint AS tokens_a_day,
       (SELECT sum(usd) FROM costs
        WHERE corpus = %(corpus)s AND last_at > now() - interval '1 day') AS usd_a_day
FROM published_index p LEFT JOIN index_buckets m USING (generation)
WHERE p.corpus = %(corpus)s;

-- name: add_metrics
-- At the end of a run, or between runs; nothing of a corpus that has been removed meanwhile.
INSERT INTO pipeline_metrics (corpus, measured_at, run_id, documents, chunks, waiting,
                              oldest_waiting_s, failed, documents_an_hour, provider_errors)
SELECT corpus, clock_timestamp(), %(run_id)s, %(documents)s, %(chunks)s, %(waiting)s,
       %(oldest_waiting_s)s, %(failed)s, %(documents_an_hour)s, %(provider_errors)s
FROM corpora WHERE corpus = %(corpus)s;

-- name: count_metrics
-- For people: how many measurements there are.
SELECT count(*) AS measurements FROM pipeline_metrics WHERE corpus = %(corpus)s;

-- name: cost_of_run
-- What one run asked of models.
SELECT coalesce(sum(tokens), 0)::bigint AS tokens, sum(usd) AS usd FROM costs
WHERE corpus = %(corpus)s AND run_id = %(run_id)s;

-- name: recorded
-- Under which source hashes documents were read or could not be, of some or of all.
SELECT doc_id, source_hash, true AS present FROM documents
WHERE corpus = %(corpus)s AND state <> 'deleted'
  AND (%(doc_ids)b::text[] IS NULL OR doc_id = ANY (%(doc_ids)b::text[]))
UNION ALL
SELECT doc_id, source_hash, false FROM dead_letters
WHERE corpus = %(corpus)s AND source_hash IS NOT NULL
  AND (%(doc_ids)b::text[] IS NULL OR doc_id = ANY (%(doc_ids)b::text[]));

-- name: withheld
-- Listed no longer, which is known.
SELECT doc_id FROM withheld_deletions WHERE corpus = %(corpus)s;

-- name: erased
-- Listed, and left out.
SELECT doc_hash FROM erased_documents WHERE corpus = %(corpus)s;
