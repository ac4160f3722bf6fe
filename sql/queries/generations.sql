-- Builds of an index and the row that readers follow.

-- name: one_at_a_time
-- Opening and ending generations of a corpus is serial; the lock ends with the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('rag_assets generations ' || %(corpus)s, 0));

-- name: living
-- Everything that receives changes.
SELECT generation, corpus, state, parser, chunker, embedder, dimensions, hnsw_m,
       hnsw_ef_construction, build, rolled_back, created_at, index_kind, ivfflat_lists
FROM generations
WHERE corpus = %(corpus)s AND state IN ('building', 'candidate', 'published', 'retired')
ORDER BY generation;

-- name: all_generations
-- For people: the history of a corpus.
SELECT g.generation, g.state, g.fingerprint, g.parser, g.chunker, g.embedder, g.dimensions,
       g.created_at, g.published_at, g.retired_at, g.ended_at, g.ended_reason, g.held, g.build,
       g.index_kind,
       (SELECT coalesce(sum(documents), 0)::integer FROM index_buckets b
        WHERE b.generation = g.generation) AS documents,
       (SELECT coalesce(sum(chunks), 0)::integer FROM index_buckets b
        WHERE b.generation = g.generation) AS chunks
FROM generations g WHERE g.corpus = %(corpus)s ORDER BY g.generation;

-- name: create
-- Made by the owner's function: the writer makes no tables.
SELECT create_generation(%(corpus)s, %(fingerprint)s, %(parser)s, %(chunker)s, %(embedder)s,
                         %(dimensions)s, %(kind)s, %(m)s, %(ef_construction)s, %(lists)s) AS generation;

-- name: stop_indexing
-- Its vector index may take long to build, and so may the key of its postings, which comes first;
-- both keep its tables until then.
SELECT pg_cancel_backend(pid) FROM pg_stat_progress_create_index
WHERE relid IN (to_regclass('index_' || %(generation)s), to_regclass('postings_' || %(generation)s));

-- name: end
-- Drops the tables of a generation that nobody reads.
SELECT end_generation(%(generation)s, %(state)s);

-- name: note_end
-- For people, and for those who would begin it again.
UPDATE generations SET ended_at = now(), ended_reason = %(reason)s, held = %(held)s
WHERE generation = %(generation)s;

-- name: held
-- Whether the last index of this recipe was ended by somebody, or after failing too often, or was
-- dropped after a rollback; and why.
SELECT state, reason FROM (
    SELECT state, held OR (state = 'dropped' AND rolled_back) AS held,
           coalesce(ended_reason, '') AS reason
    FROM generations WHERE corpus = %(corpus)s AND fingerprint = %(fingerprint)s
      AND state IN ('cancelled', 'failed', 'dropped')
    ORDER BY generation DESC LIMIT 1) last
WHERE held;

-- name: hold_no_more
-- Somebody has asked for this recipe.
UPDATE generations SET held = false WHERE corpus = %(corpus)s AND fingerprint = %(fingerprint)s AND held;

-- name: ended
-- How a generation ended, if it has.
SELECT state, coalesce(ended_reason, '') AS reason FROM generations
WHERE generation = %(generation)s AND state IN ('cancelled', 'failed', 'dropped');

-- name: build_vector_index
-- Once, after the load; of a kind that needs none, what else a search needs.
SELECT build_vector_index(%(generation)s);

-- name: lists_to_build
-- Into how many lists an index of this kind would be sorted now.
SELECT lists_of(generation) AS lists FROM generations
WHERE generation = %(generation)s AND index_kind = 'ivfflat';

-- name: build_settings
-- Room and hands for building an index, never less than the server gives by itself; local to the
-- transaction.
SELECT set_config('maintenance_work_mem',
                  greatest((SELECT max(pg_size_bytes(m)) FROM unnest(%(memory)s::text[]) m),
                           pg_size_bytes(current_setting('maintenance_work_mem'))) / 1024 || 'kB',
                  true),
       set_config('max_parallel_maintenance_workers', '2', true),
       set_config('statement_timeout', '0', true); -- a large graph takes hours; ending it stops it

-- name: unfinished
-- What stands between a generation and its documents: buckets never looked at, documents waiting.
-- Only what was written since the last merge can differ. What cannot be processed for this
-- generation, or is in quarantine, waits only to be taken out.
SELECT c.buckets - (SELECT count(*) FROM buckets b WHERE b.corpus = c.corpus AND b.epoch > 0)
           AS buckets_unseen,
       (SELECT count(*) FROM buckets b
        LEFT JOIN index_buckets m ON m.generation = g.generation AND m.bucket = b.bucket
        CROSS JOIN LATERAL (
            SELECT * FROM documents
            WHERE corpus = b.corpus AND bucket = b.bucket AND version > coalesce(m.version, 0)
            OFFSET 0) d
        LEFT JOIN indexed_documents s ON s.generation = g.generation AND s.doc_id = d.doc_id
        WHERE b.corpus = c.corpus AND CASE
            WHEN d.state <> 'live' OR EXISTS (
                SELECT FROM dead_letters l
                WHERE l.corpus = d.corpus AND l.doc_id = d.doc_id
                  AND l.content_hash = d.content_hash
                  AND (l.stage, l.subject) IN (('parse', g.parser), ('chunk', g.chunker),
                                               ('embed', g.embedder))
                  AND NOT EXISTS (
                      SELECT FROM chunk_sets n WHERE n.content_hash = l.content_hash
                      AND n.parser = g.parser AND n.chunker = g.chunker
                      AND n.created_at > l.last_seen_at))
                OR EXISTS (
                SELECT FROM verdicts q
                WHERE q.corpus = d.corpus AND q.doc_id = d.doc_id
                  AND q.content_hash = d.content_hash AND q.quarantined AND NOT q.released
                  AND (q.stage, q.subject) IN (
                      ('documents', g.parser), ('chunks', g.parser || ' ' || g.chunker),
                      ('embeddings', g.parser || ' ' || g.chunker || ' ' || g.embedder)))
            THEN s.doc_id IS NOT NULL
            ELSE (s.content_hash, s.uri, s.title, s.acl)
                 IS DISTINCT FROM (d.content_hash, d.uri, d.title, d.acl) END)
           AS documents_waiting
FROM corpora c JOIN generations g ON g.generation = %(generation)s WHERE c.corpus = %(corpus)s;

-- name: content
-- What a generation serves, in one number: equal content gives an equal one.
SELECT coalesce(bit_xor(checksum), 0)::text AS content, coalesce(sum(documents), 0)::integer AS documents,
       coalesce(sum(chunks), 0)::integer AS chunks
FROM index_buckets WHERE generation = %(generation)s;

-- name: published
-- The contract between the halves.
SELECT corpus, generation, embedder, retrieval, run_id, published_at, api_key_env, index_kind
FROM published_index WHERE corpus = %(corpus)s;

-- name: published_corpora
-- When no corpus is named and only one is published, that one is meant.
SELECT corpus FROM published_index ORDER BY corpus;

-- name: standing
-- What a candidate is, and what readers see, while nobody else can change either.
SELECT state, (SELECT p.generation FROM published_index p WHERE p.corpus = g.corpus) AS read
FROM generations g WHERE generation = %(generation)s;

-- name: withdrawn
-- Documents that a generation shows though they are gone, or shows to others than may see them. Only
-- what was written since its last merge can differ.
SELECT count(*) AS documents
FROM buckets b
LEFT JOIN index_buckets m ON m.generation = %(generation)s AND m.bucket = b.bucket
CROSS JOIN LATERAL (
    SELECT * FROM documents
    WHERE corpus = b.corpus AND bucket = b.bucket AND version > coalesce(m.version, 0) OFFSET 0) d
JOIN indexed_documents s ON s.generation = %(generation)s AND s.doc_id = d.doc_id
WHERE b.corpus = %(corpus)s AND (d.state = 'deleted' OR s.acl <> d.acl);

-- name: retire
-- The one that was published keeps receiving changes, for a rollback.
UPDATE generations SET state = 'retired', retired_at = now(), rolled_back = %(rolled_back)s
WHERE corpus = %(corpus)s AND state = 'published' AND generation <> %(generation)s;

-- name: mark_published
-- Beside the row in published_index, in the same transaction.
UPDATE generations SET state = 'published', published_at = now(), retired_at = NULL,
                       rolled_back = false
WHERE generation = %(generation)s AND state IN ('candidate', 'retired', 'published')
RETURNING generation;

-- name: note_publication
-- Before the switch, in its transaction: what readers will see, and what they have seen.
INSERT INTO publications (corpus, generation, replaced, reason, forced, rolled_back, run_id,
                          code_version)
SELECT %(corpus)s, %(generation)s,
       (SELECT generation FROM published_index WHERE corpus = %(corpus)s),
       %(reason)s, %(forced)s, %(rolled_back)s, %(run_id)s, %(code_version)s;

-- name: publications
-- For people: the newest first.
SELECT generation, replaced, reason, forced, rolled_back, run_id, code_version, published_at
FROM publications WHERE corpus = %(corpus)s ORDER BY published_at DESC;

-- name: publish
-- The switch: readers that begin after this read the new generation.
INSERT INTO published_index (corpus, generation, embedder, retrieval, run_id, reason, api_key_env,
                             code_version, index_kind)
SELECT corpus, generation, embedder, %(retrieval)s, %(run_id)s, %(reason)s, %(api_key_env)s,
       %(code_version)s, index_kind
FROM generations WHERE generation = %(generation)s
ON CONFLICT (corpus) DO UPDATE
SET generation = excluded.generation, embedder = excluded.embedder, retrieval = excluded.retrieval,
    run_id = excluded.run_id, reason = excluded.reason, published_at = now(),
    api_key_env = excluded.api_key_env, code_version = excluded.code_version,
    index_kind = excluded.index_kind;

-- name: update_retrieval
-- Settings of reading alone need no new generation.
UPDATE published_index SET retrieval = %(retrieval)s, api_key_env = %(api_key_env)s
WHERE corpus = %(corpus)s
  AND generation = %(generation)s
  AND (retrieval, api_key_env) IS DISTINCT FROM (%(retrieval)s::jsonb, %(api_key_env)s::text);

-- name: recall
-- A retired generation whose settings came back is a candidate again, unless it was rolled back.
UPDATE generations SET state = 'candidate', retired_at = NULL
WHERE generation = %(generation)s AND state = 'retired' AND NOT rolled_back
RETURNING generation;

-- name: set_aside
-- A candidate that was published before goes back to where a rollback finds it.
UPDATE generations SET state = 'retired', retired_at = now(), rolled_back = rolled_back OR %(held)s
WHERE generation = %(generation)s AND state = 'candidate' AND published_at IS NOT NULL
RETURNING generation;

-- name: rollback_target
-- The generation that was published before this one and still lives; none that was gone back from,
-- so that whoever goes back twice does not go forward.
SELECT generation FROM generations
WHERE corpus = %(corpus)s AND state = 'retired' AND published_at IS NOT NULL AND NOT rolled_back
ORDER BY retired_at DESC LIMIT 1;

-- name: expired
-- Retired longer than the grace period, and not the newest of them, which are kept: first of all
-- those that a rollback can go to.
SELECT generation FROM (
    SELECT generation, retired_at,
           row_number() OVER (ORDER BY rolled_back, retired_at DESC) AS age
    FROM generations WHERE corpus = %(corpus)s AND state = 'retired'
) retired
WHERE age > %(keep)s AND retired_at < now() - %(grace)s::interval;
