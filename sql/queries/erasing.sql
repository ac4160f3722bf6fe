-- Taking a document out of everything, for good.

-- name: corpora_with
-- Whose document it is or was.
SELECT corpus FROM corpora c
WHERE EXISTS (SELECT FROM documents d WHERE d.corpus = c.corpus AND d.doc_id = %(doc_id)s)
   OR EXISTS (SELECT FROM document_versions v WHERE v.corpus = c.corpus AND v.doc_id = %(doc_id)s)
ORDER BY corpus;

-- name: hold_merges
-- Whoever merges this bucket has ended, and nobody begins: what they read would be brought back.
SELECT pg_advisory_xact_lock(%(generation)s, %(bucket)s);

-- name: hold_first_run
-- A bucket without a fence yet: whoever looks at its source has ended, and nobody begins.
SELECT pg_advisory_xact_lock(hashtextextended('rag_assets bucket ' || %(corpus)s, %(bucket)s));

-- name: corpus
-- Not spread over other buckets, nor removed, before the end.
SELECT scope, buckets FROM corpora WHERE corpus = %(corpus)s FOR KEY SHARE;

-- name: recorded
-- Whether the bucket has a fence.
SELECT FROM buckets WHERE corpus = %(corpus)s AND bucket = %(bucket)s AND epoch > 0;

-- name: raise_fence
-- A run that looked at the source before can record no more; merges see that something was written.
UPDATE buckets SET epoch = epoch + 1, version = version + 1, run_id = %(run_id)s
WHERE corpus = %(corpus)s AND bucket = %(bucket)s AND epoch > 0
RETURNING version;

-- name: block
-- The id itself is forgotten: its hash tells a listing what to leave out.
INSERT INTO erased_documents (corpus, doc_hash, run_id)
VALUES (%(corpus)s, sha256(convert_to(%(doc_id)s, 'UTF8')), %(run_id)s)
ON CONFLICT DO NOTHING;

-- name: unblock
-- The next listing brings the document back, if its source still has it.
DELETE FROM erased_documents
WHERE corpus = %(corpus)s AND doc_hash = sha256(convert_to(%(doc_id)s, 'UTF8'));

-- name: contents
-- All that the document ever was, as far as anybody knows; nothing was read of an empty one.
SELECT content_hash FROM (
    SELECT content_hash FROM documents WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s
    UNION
    SELECT content_hash FROM document_versions WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s
    UNION
    SELECT content_hash FROM dead_letters WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s
    UNION
    SELECT content_hash FROM verdicts WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s
    UNION
    SELECT s.content_hash FROM indexed_documents s JOIN generations g USING (generation)
    WHERE g.corpus = %(corpus)s AND s.doc_id = %(doc_id)s) c
WHERE length(content_hash) > 0 ORDER BY content_hash;

-- name: duplicates
-- Who else has, or had, one of its contents.
SELECT corpus, doc_id FROM documents WHERE content_hash = ANY (%(contents)s)
UNION
SELECT corpus, doc_id FROM document_versions WHERE content_hash = ANY (%(contents)s)
ORDER BY corpus, doc_id;

-- name: erase_postings
-- Its words.
DELETE FROM {postings} WHERE doc_id = %(doc_id)s;

-- name: erase_rows
-- Its vectors.
DELETE FROM {index} WHERE doc_id = %(doc_id)s;

-- name: erase_served
-- What was served of it; the manifest follows.
WITH gone AS (
    DELETE FROM indexed_documents WHERE generation = %(generation)s AND doc_id = %(doc_id)s
    RETURNING generation, bucket, chunks, words, checksum
), kept AS (
    UPDATE index_buckets m
    SET documents = m.documents - 1, chunks = m.chunks - gone.chunks, words = m.words - gone.words,
        checksum = m.checksum # gone.checksum, run_id = %(run_id)s, merged_at = now()
    FROM gone WHERE m.generation = gone.generation AND m.bucket = gone.bucket
)
SELECT FROM gone;

-- name: follow_fence
-- Where all had been merged, all still is.
UPDATE index_buckets SET version = %(version)s
WHERE generation = %(generation)s AND bucket = %(bucket)s AND version = %(version)s - 1;

-- name: erase_document
-- What was observed of it.
DELETE FROM documents WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s;

-- name: erase_versions
-- What it was before.
DELETE FROM document_versions WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s;

-- name: erase_letters
-- Why it could not be processed.
DELETE FROM dead_letters WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s;

-- name: erase_verdicts
-- What was wrong with it.
DELETE FROM verdicts WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s;

-- name: follow_judged
-- Where all had been judged, all still is.
UPDATE judged_buckets SET version = %(version)s
WHERE corpus = %(corpus)s AND bucket = %(bucket)s AND version = %(version)s - 1;

-- name: erase_hints
-- That it may have changed.
DELETE FROM hints WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s;

-- name: erase_withheld
-- That its deletion was not believed.
DELETE FROM withheld_deletions WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s;

-- name: erase_feedback
-- What was said of its passages, which are quoted there. After what is served of it: who was just
-- saying something of it has ended, and nobody begins.
DELETE FROM feedback WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s;

-- name: erase_scores
-- What a question that was made of it scored: such a question begins with its hash; some that were
-- made earlier have its id for a name.
DELETE FROM evaluation_results r USING generations g
WHERE g.generation = r.generation AND g.corpus = %(corpus)s
  AND (starts_with(r.question_id, 'generated-'
                   || left(encode(sha256(convert_to(%(doc_id)s, 'UTF8')), 'hex'), 12) || '-')
       OR (starts_with(r.question_id, %(doc_id)s)
           AND substr(r.question_id, length(%(doc_id)s) + 1) ~ '^[#@][0-9]+$'));

-- name: erase_gate_verdicts
-- Verdicts that name it, and not only one whose name holds its own; they judged what is gone.
DELETE FROM gate_verdicts j USING generations g
WHERE g.generation = j.generation AND g.corpus = %(corpus)s AND EXISTS (
    SELECT FROM jsonb_path_query(jsonb_build_array(j.reasons, j.warnings, j.evidence), '$.**') v
    WHERE v #>> '{}' ~ ('(^|[^[:alnum:]_./~-])'
                        || regexp_replace(%(doc_id)s::text, '([][(){}.*+?^$|\\])', '\\\1', 'g')
                        || '($|[^[:alnum:]_./~-]|[.]($|[[:space:]]))'));

-- name: unused_texts
-- Texts that no document has or had any more. Whoever is cutting one has ended, and nobody begins.
SELECT t.content_hash FROM document_texts t
WHERE t.content_hash = ANY (%(contents)s)
  AND NOT EXISTS (SELECT FROM documents d WHERE d.content_hash = t.content_hash)
  AND NOT EXISTS (SELECT FROM document_versions v WHERE v.content_hash = t.content_hash)
ORDER BY t.content_hash, t.parser FOR UPDATE OF t;

-- name: embedded_texts
-- What models were given of these contents.
SELECT DISTINCT text_hash FROM chunks WHERE content_hash = ANY (%(contents)s) ORDER BY text_hash;

-- name: erase_chunks
-- Before the vectors: one is added only while a chunk with its text is there.
DELETE FROM chunks WHERE content_hash = ANY (%(unused)s);

-- name: erase_chunk_sets
-- That they had been cut.
DELETE FROM chunk_sets WHERE content_hash = ANY (%(unused)s);

-- name: erase_texts
-- What stood in it.
DELETE FROM document_texts WHERE content_hash = ANY (%(unused)s);

-- name: erase_embeddings
-- Vectors that no chunk of any version of a document of their scope uses any more.
DELETE FROM embeddings e
WHERE e.scope = %(scope)s AND e.text_hash = ANY (%(text_hashes)s) AND NOT EXISTS (
    SELECT FROM chunks c JOIN document_versions v USING (content_hash) JOIN corpora k USING (corpus)
    WHERE c.text_hash = e.text_hash AND k.scope = e.scope)
RETURNING text_hash;

-- name: proof
-- Counts what the database holds of an erased document: it must give 0. What another document has
-- brought again since is its own.
SELECT (SELECT count(*) FROM rag_assets.documents
        WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s)
     + (SELECT count(*) FROM rag_assets.document_versions
        WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s)
     + (SELECT count(*) FROM rag_assets.dead_letters
        WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s)
     + (SELECT count(*) FROM rag_assets.verdicts
        WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s)
     + (SELECT count(*) FROM rag_assets.hints
        WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s)
     + (SELECT count(*) FROM rag_assets.withheld_deletions
        WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s)
     + (SELECT count(*) FROM rag_assets.feedback
        WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s)
     + (SELECT count(*) FROM rag_assets.evaluation_results r
        JOIN rag_assets.generations g USING (generation)
        WHERE g.corpus = %(corpus)s
          AND (starts_with(r.question_id, 'generated-'
                           || left(encode(sha256(convert_to(%(doc_id)s, 'UTF8')), 'hex'), 12) || '-')
               OR (starts_with(r.question_id, %(doc_id)s)
                   AND substr(r.question_id, length(%(doc_id)s) + 1) ~ '^[#@][0-9]+$')))
     + (SELECT count(*) FROM rag_assets.gate_verdicts j
        JOIN rag_assets.generations g USING (generation)
        WHERE g.corpus = %(corpus)s AND EXISTS (
            SELECT FROM jsonb_path_query(
                jsonb_build_array(j.reasons, j.warnings, j.evidence), '$.**') v
            WHERE v #>> '{}' ~ ('(^|[^[:alnum:]_./~-])'
                                || regexp_replace(%(doc_id)s::text, '([][(){}.*+?^$|\\])', '\\\1', 'g')
                                || '($|[^[:alnum:]_./~-]|[.]($|[[:space:]]))')))
     + (SELECT count(*) FROM (
            SELECT content_hash FROM rag_assets.document_texts
            UNION ALL SELECT content_hash FROM rag_assets.chunk_sets
            UNION ALL SELECT content_hash FROM rag_assets.chunks) t
        WHERE t.content_hash = ANY (%(unused)s::bytea[]) AND NOT EXISTS (
            SELECT FROM rag_assets.document_versions v WHERE v.content_hash = t.content_hash))
     + (SELECT count(*) FROM rag_assets.embeddings e
        WHERE e.scope = %(scope)s AND e.text_hash = ANY (%(vectors)s::bytea[]) AND NOT EXISTS (
            SELECT FROM rag_assets.chunks c
            JOIN rag_assets.document_versions v USING (content_hash)
            JOIN rag_assets.corpora k USING (corpus)
            WHERE c.text_hash = e.text_hash AND k.scope = e.scope)) AS remaining;

-- name: proof_of_generation
-- Counts what a living generation serves of it: it must give 0.
SELECT (SELECT count(*) FROM rag_assets.indexed_documents
        WHERE generation = %(generation)s AND doc_id = %(doc_id)s)
     + (SELECT count(*) FROM rag_assets.{index} WHERE doc_id = %(doc_id)s)
     + (SELECT count(*) FROM rag_assets.{postings} WHERE doc_id = %(doc_id)s) AS remaining;

-- name: own_tables
-- Those of these tables that this role may clean.
SELECT relname FROM pg_class
WHERE relnamespace = to_regnamespace('rag_assets') AND relname = ANY (%(tables)s)
  AND pg_has_role(relowner, 'USAGE')
ORDER BY relname;

-- name: vacuum
-- Rows that were deleted leave the files of their table.
VACUUM {table};
