-- Taking away what no generation and no document uses any more: a little at a time, in short
-- transactions. `young` is longer than any run: what is younger may belong to one that is going on.
-- What a corpus keeps is what its last upkeep has said, or would say, where it is rehearsed.

-- name: settle_collecting
-- A collection gives way: whoever works is not to wait for it long.
SELECT set_config('lock_timeout', '5s', false);

-- name: keep_for
-- Of which length every later collection thinks, whichever corpus it is for: texts are shared.
UPDATE corpora SET kept_for = %(kept_for)s::interval
WHERE corpus = %(corpus)s AND kept_for IS DISTINCT FROM %(kept_for)s::interval;

-- name: one_collector
-- Another one would only read the same; the lock goes with the connection.
SELECT pg_try_advisory_lock(hashtextextended('rag_assets upkeep', 0)) AS got;

-- name: hold_generations
-- None is opened or ended meanwhile, of any corpus.
SELECT pg_advisory_xact_lock(hashtextextended('rag_assets generations ' || corpus, 0))
FROM (SELECT corpus FROM corpora ORDER BY corpus) k;

-- name: page_of_chunk_sets
-- The next of all, in the order of the key.
SELECT content_hash, parser, chunker FROM chunk_sets
WHERE (content_hash, parser, chunker) > (%(content_hash)s, %(parser)s, %(chunker)s)
ORDER BY content_hash, parser, chunker LIMIT %(limit)s;

-- name: page_of_texts
-- The next of all, in the order of the key.
SELECT content_hash, parser FROM document_texts
WHERE (content_hash, parser) > (%(content_hash)s, %(parser)s)
ORDER BY content_hash, parser LIMIT %(limit)s;

-- name: unneeded_chunk_sets
-- Of these, those of a recipe that no kept generation has, or of a content that no document of that
-- generation's corpus has, has had lately, or is still served with.
WITH retention AS MATERIALIZED (
    SELECT corpus, scope, CASE WHEN corpus = %(rehearsed)s THEN %(kept_for)s::interval
                               ELSE kept_for END AS kept_for FROM corpora
), kept AS MATERIALIZED (
    SELECT g.generation, g.corpus, g.parser, g.chunker,
           now() - greatest(k.kept_for, %(young)s::interval) AS kept_since
    FROM generations g JOIN retention k USING (corpus)
    WHERE g.state IN ('building', 'candidate', 'published', 'retired') OR k.kept_for IS NULL
       OR greatest(g.created_at, g.published_at, g.retired_at, g.ended_at)
          > now() - greatest(k.kept_for, %(young)s::interval)
)
SELECT s.content_hash, s.parser, s.chunker, s.chunks
FROM unnest(%(content_hashes)b::bytea[], %(parsers)b::text[], %(chunkers)b::text[])
     o (content_hash, parser, chunker)
JOIN chunk_sets s USING (content_hash, parser, chunker)
WHERE s.created_at < now() - %(young)s::interval
  AND NOT EXISTS (
    SELECT FROM documents d JOIN kept g USING (corpus)
    WHERE d.content_hash = s.content_hash AND d.state <> 'deleted'
      AND (g.parser, g.chunker) = (s.parser, s.chunker))
  AND NOT EXISTS (
    SELECT FROM document_versions v JOIN kept g USING (corpus) JOIN retention k USING (corpus)
    WHERE v.content_hash = s.content_hash AND (g.parser, g.chunker) = (s.parser, s.chunker)
      AND (v.last_seen_at IS NULL OR k.kept_for IS NULL OR v.last_seen_at > g.kept_since
           OR EXISTS (SELECT FROM indexed_documents i
                      WHERE i.generation = g.generation AND i.doc_id = v.doc_id
                        AND i.content_hash = v.content_hash)))
ORDER BY s.content_hash, s.parser, s.chunker;

-- name: unneeded_texts
-- Of these, those that no document and no kept generation would be made from again. (The parser of
-- a version counts beside those of generations: a citation leads to its text.)
WITH retention AS MATERIALIZED (
    SELECT corpus, scope, CASE WHEN corpus = %(rehearsed)s THEN %(kept_for)s::interval
                               ELSE kept_for END AS kept_for FROM corpora
), kept AS MATERIALIZED (
    SELECT g.generation, g.corpus, g.parser
    FROM generations g JOIN retention k USING (corpus)
    WHERE g.state IN ('building', 'candidate', 'published', 'retired') OR k.kept_for IS NULL
       OR greatest(g.created_at, g.published_at, g.retired_at, g.ended_at)
          > now() - greatest(k.kept_for, %(young)s::interval)
)
SELECT t.content_hash, t.parser
FROM unnest(%(content_hashes)b::bytea[], %(parsers)b::text[]) o (content_hash, parser)
JOIN document_texts t USING (content_hash, parser)
WHERE t.created_at < now() - %(young)s::interval
  AND NOT EXISTS (
    SELECT FROM documents d
    WHERE d.content_hash = t.content_hash AND d.state <> 'deleted'
      AND (d.parser = t.parser OR EXISTS (
          SELECT FROM kept g WHERE g.corpus = d.corpus AND g.parser = t.parser)))
  AND NOT EXISTS (
    SELECT FROM document_versions v JOIN retention k USING (corpus)
    WHERE v.content_hash = t.content_hash
      AND (v.parser = t.parser OR EXISTS (
          SELECT FROM kept g WHERE g.corpus = v.corpus AND g.parser = t.parser))
      AND (v.last_seen_at IS NULL OR k.kept_for IS NULL
           OR v.last_seen_at > now() - greatest(k.kept_for, %(young)s::interval)
           OR EXISTS (SELECT FROM kept g
                      JOIN indexed_documents i ON i.generation = g.generation
                                              AND i.doc_id = v.doc_id
                      WHERE g.corpus = v.corpus AND i.content_hash = v.content_hash)))
ORDER BY t.content_hash, t.parser;

-- name: served
-- Of these contents, those that a generation serves, and its recipe, whatever their history says.
SELECT DISTINCT i.content_hash, g.parser, g.chunker
FROM indexed_documents i JOIN generations g USING (generation)
WHERE i.content_hash = ANY (%(content_hashes)b::bytea[]);

-- name: lock_chunk_sets
-- Those of these that nobody uses just now, with all of their chunks; the others are left for a later
-- collection, so that it never waits for a run that waits for it.
WITH ours AS MATERIALIZED (
    SELECT s.content_hash, s.parser, s.chunker
    FROM unnest(%(content_hashes)b::bytea[], %(parsers)b::text[], %(chunkers)b::text[])
         o (content_hash, parser, chunker)
    JOIN chunk_sets s USING (content_hash, parser, chunker)
    FOR UPDATE OF s SKIP LOCKED
), locked AS MATERIALIZED (
    SELECT c.content_hash, c.parser, c.chunker, c.ord
    FROM ours JOIN chunks c USING (content_hash, parser, chunker)
    FOR UPDATE OF c SKIP LOCKED
)
SELECT o.content_hash, o.parser, o.chunker FROM ours o
WHERE (SELECT count(*) FROM chunks c
       WHERE (c.content_hash, c.parser, c.chunker) = (o.content_hash, o.parser, o.chunker))
    = (SELECT count(*) FROM locked l
       WHERE (l.content_hash, l.parser, l.chunker) = (o.content_hash, o.parser, o.chunker));

-- name: embedded_texts
-- What models were given of these chunk sets.
SELECT c.text_hash, count(*) AS chunks
FROM unnest(%(content_hashes)b::bytea[], %(parsers)b::text[], %(chunkers)b::text[])
     o (content_hash, parser, chunker)
JOIN chunks c USING (content_hash, parser, chunker)
GROUP BY c.text_hash ORDER BY c.text_hash;

-- name: delete_chunk_sets
-- With their chunks.
DELETE FROM chunk_sets s
USING unnest(%(content_hashes)b::bytea[], %(parsers)b::text[], %(chunkers)b::text[])
      o (content_hash, parser, chunker)
WHERE (s.content_hash, s.parser, s.chunker) = (o.content_hash, o.parser, o.chunker);

-- name: delete_orphaned_vectors
-- After the chunks, in their transaction: a vector that no chunk of its scope leads to would be found
-- by no erasure.
DELETE FROM embeddings e
USING unnest(%(scopes)s::text[], %(models)s::text[]) m (scope, model),
      unnest(%(text_hashes)b::bytea[]) t (text_hash)
WHERE (e.scope, e.model, e.text_hash) = (m.scope, m.model, t.text_hash) AND NOT EXISTS (
    SELECT FROM chunks c JOIN document_versions v USING (content_hash) JOIN corpora k USING (corpus)
    WHERE c.text_hash = e.text_hash AND k.scope = e.scope);

-- name: orphans_to_be
-- How many vectors would go with these chunk sets, at least.
SELECT count(*) AS vectors
FROM unnest(%(scopes)s::text[], %(models)s::text[]) m (scope, model),
     unnest(%(text_hashes)b::bytea[]) t (text_hash)
JOIN embeddings e USING (text_hash)
WHERE (e.scope, e.model) = (m.scope, m.model) AND NOT EXISTS (
    SELECT FROM chunks c JOIN document_versions v USING (content_hash) JOIN corpora k USING (corpus)
    WHERE c.text_hash = e.text_hash AND k.scope = e.scope AND NOT EXISTS (
        SELECT FROM unnest(%(content_hashes)b::bytea[], %(parsers)b::text[], %(chunkers)b::text[])
                    o (content_hash, parser, chunker)
        WHERE (o.content_hash, o.parser, o.chunker) = (c.content_hash, c.parser, c.chunker)));

-- name: delete_texts
-- Whose chunks have gone, and which nobody shares just now.
DELETE FROM document_texts t
USING (SELECT content_hash, parser FROM document_texts
       JOIN unnest(%(content_hashes)b::bytea[], %(parsers)b::text[]) o (content_hash, parser)
           USING (content_hash, parser)
       FOR UPDATE OF document_texts SKIP LOCKED) o
WHERE (t.content_hash, t.parser) = (o.content_hash, o.parser)
  AND NOT EXISTS (SELECT FROM chunk_sets s
                  WHERE (s.content_hash, s.parser) = (t.content_hash, t.parser));

-- name: models
-- Every model that something was embedded with, found without reading all vectors; unused: no corpus of
-- the scope has, or has had lately, a generation with it.
WITH RECURSIVE retention AS MATERIALIZED (
    SELECT corpus, scope, CASE WHEN corpus = %(rehearsed)s THEN %(kept_for)s::interval
                               ELSE kept_for END AS kept_for FROM corpora
), m AS (
    (SELECT scope, model FROM embeddings ORDER BY scope, model LIMIT 1)
    UNION ALL
    SELECT n.scope, n.model FROM m CROSS JOIN LATERAL (
        SELECT e.scope, e.model FROM embeddings e
        WHERE (e.scope, e.model) > (m.scope, m.model) ORDER BY e.scope, e.model LIMIT 1) n
)
SELECT m.scope, m.model, NOT EXISTS (
    SELECT FROM generations g JOIN retention k USING (corpus)
    WHERE k.scope = m.scope AND g.embedder = m.model
      AND (g.state IN ('building', 'candidate', 'published', 'retired') OR k.kept_for IS NULL
           OR greatest(g.created_at, g.published_at, g.retired_at, g.ended_at)
              > now() - greatest(k.kept_for, %(young)s::interval))) AS unused
FROM m;

-- name: delete_vectors
-- Some of a model that no generation has.
DELETE FROM embeddings e
USING (SELECT scope, model, text_hash FROM embeddings
       WHERE scope = %(scope)s AND model = %(model)s AND created_at < now() - %(young)s::interval
       ORDER BY text_hash LIMIT %(limit)s FOR UPDATE SKIP LOCKED) o
WHERE (e.scope, e.model, e.text_hash) = (o.scope, o.model, o.text_hash);

-- name: count_vectors
-- How many of a model that no generation has would go.
SELECT count(*) AS vectors FROM embeddings
WHERE scope = %(scope)s AND model = %(model)s AND created_at < now() - %(young)s::interval;

-- name: delete_claims
-- Of runs that have died; a living one holds its lock.
DELETE FROM embedding_claims c
WHERE c.claimed_at < now() - %(young)s::interval AND NOT EXISTS (
    SELECT FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted AND l.objid = c.holder::oid
      AND l.classid = (hashtext('rag_assets embedding claims')::bigint & 4294967295)::oid
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()));

-- name: unused_judgings
-- What was judged of the work of a recipe that no kept generation has. What is judged of documents by
-- their own parser, or was judged lately, may be of a generation that is about to be opened. What
-- somebody has released stays, for it speaks of a content, whatever it is made into.
WITH retention AS MATERIALIZED (
    SELECT corpus, CASE WHEN corpus = %(rehearsed)s THEN %(kept_for)s::interval
                        ELSE kept_for END AS kept_for FROM corpora
), kept AS MATERIALIZED (
    SELECT g.corpus, g.parser, g.chunker, g.embedder
    FROM generations g JOIN retention k USING (corpus)
    WHERE g.state IN ('building', 'candidate', 'published', 'retired')
       OR greatest(g.created_at, g.published_at, g.retired_at, g.ended_at)
          > now() - greatest(k.kept_for, %(young)s::interval)
), judged AS (
    SELECT corpus, stage, subject, 0 AS verdicts, NULL::timestamptz AS latest FROM judged_buckets
    UNION ALL
    SELECT corpus, stage, subject, 1, first_seen_at FROM verdicts WHERE NOT released
)
SELECT corpus, stage, subject, sum(verdicts)::integer AS verdicts
FROM judged JOIN retention k USING (corpus)
WHERE k.kept_for IS NOT NULL
GROUP BY corpus, stage, subject
HAVING coalesce(max(latest) < now() - %(young)s::interval, true)
   AND NOT EXISTS (
    SELECT FROM kept g
    WHERE g.corpus = judged.corpus AND (judged.stage, judged.subject) IN (
        ('documents', g.parser), ('chunks', g.parser || ' ' || g.chunker),
        ('embeddings', g.parser || ' ' || g.chunker || ' ' || g.embedder)))
   AND NOT (stage = 'documents' AND EXISTS (
    SELECT FROM documents d
    WHERE d.corpus = judged.corpus AND d.parser = judged.subject AND d.state <> 'deleted'))
ORDER BY corpus, stage, subject;

-- name: delete_judged
-- Where nothing says that it was judged, whoever needs it again judges it again.
DELETE FROM judged_buckets
WHERE corpus = %(corpus)s AND stage = %(stage)s AND subject = %(subject)s;

-- name: delete_verdicts
-- In the same transaction, or what is wrong with a document would be forgotten for good.
DELETE FROM verdicts
WHERE corpus = %(corpus)s AND stage = %(stage)s AND subject = %(subject)s AND NOT released;

-- name: delete_metrics
-- Measurements of the pipeline.
DELETE FROM pipeline_metrics
WHERE corpus = %(corpus)s AND measured_at < now() - %(kept_logs)s::interval;

-- name: delete_sizes
-- Measurements of the index; of each generation the last one stays.
DELETE FROM index_sizes s
WHERE s.measured_at < now() - %(kept_logs)s::interval
  AND s.generation IN (SELECT generation FROM generations WHERE corpus = %(corpus)s)
  AND EXISTS (SELECT FROM index_sizes n
              WHERE n.generation = s.generation AND n.measured_at > s.measured_at);

-- name: delete_scores
-- Scores of contents that were searched once. Of each golden set and generation the first and the
-- last ones stay, and those with which it was published: later ones are held against them.
DELETE FROM evaluations e
WHERE e.scored_at < now() - %(kept_logs)s::interval
  AND e.generation IN (SELECT generation FROM generations WHERE corpus = %(corpus)s)
  AND EXISTS (SELECT FROM evaluations n
              WHERE (n.generation, n.golden_set) = (e.generation, e.golden_set)
                AND n.scored_at > e.scored_at)
  AND EXISTS (SELECT FROM evaluations b
              WHERE (b.generation, b.golden_set, split_part(b.content, '/', 2))
                  = (e.generation, e.golden_set, split_part(e.content, '/', 2))
                AND b.scored_at < e.scored_at)
  AND NOT EXISTS (
      SELECT FROM publications p
      WHERE p.generation = e.generation AND p.published_at >= e.scored_at
        AND NOT EXISTS (
            SELECT FROM evaluations n
            WHERE (n.generation, n.golden_set) = (e.generation, e.golden_set)
              AND n.scored_at > e.scored_at AND n.scored_at <= p.published_at));

-- name: delete_failures
-- Of buckets that the corpus has no longer, and what nothing has tried again for so long.
DELETE FROM failures f USING corpora k
WHERE f.corpus = %(corpus)s AND k.corpus = f.corpus
  AND (f.bucket >= k.buckets OR f.last_at < now() - %(kept_logs)s::interval);

-- name: delete_feedback
-- What was said of answers: what is to be kept of it is in a golden set by now.
DELETE FROM feedback
WHERE corpus = %(corpus)s AND given_at < now() - %(kept_logs)s::interval;

-- name: worn_tables
-- Where much was written since the last time, of those that this role may clean.
SELECT s.relname FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
WHERE s.schemaname = 'rag_assets' AND pg_has_role(c.relowner, 'USAGE')
  AND (s.n_dead_tup > 1000 + s.n_live_tup / 20
       OR s.n_mod_since_analyze > 1000 + s.n_live_tup / 20)
ORDER BY s.relname;

-- name: settle_vacuuming
-- A large table takes its time.
SELECT set_config('statement_timeout', '0', false);

-- name: vacuum
-- Deleted rows leave the files of their table, and what is in it is counted. A table that somebody
-- locks is left for the next time.
VACUUM (ANALYZE, SKIP_LOCKED) {table};
