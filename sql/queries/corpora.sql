-- Whole corpora: listing, removing, spreading over another number of buckets.

-- name: registered
-- Every corpus that was ever materialized.
SELECT corpus, scope, buckets FROM corpora ORDER BY corpus;

-- name: corpus_counts
-- What removing would take away.
SELECT (SELECT count(*) FROM documents WHERE corpus = %(corpus)s AND state = 'live') AS documents,
       (SELECT count(*) FROM generations
        WHERE corpus = %(corpus)s AND state IN ('building', 'candidate', 'published', 'retired'))
           AS generations;

-- name: lock_corpus
-- Waits until no observation and no merge of the corpus is being written; none begins before the end.
SELECT corpus, scope, buckets FROM corpora WHERE corpus = %(corpus)s FOR UPDATE;

-- name: lock_texts
-- No other corpus begins to use a text while those that nobody uses are taken away.
LOCK TABLE document_texts, documents IN SHARE ROW EXCLUSIVE MODE;

-- name: unpublish
-- Readers stop seeing the corpus first.
DELETE FROM published_index WHERE corpus = %(corpus)s;

-- name: remove
-- Takes documents, versions, dead letters, generations and scores along.
DELETE FROM corpora WHERE corpus = %(corpus)s;

-- name: unused_embeddings
-- Vectors of this scope that no chunk of any version of a document of the scope uses.
DELETE FROM embeddings e WHERE e.scope = %(scope)s AND NOT EXISTS (
    SELECT FROM chunks c JOIN document_versions v USING (content_hash) JOIN corpora k USING (corpus)
    WHERE c.text_hash = e.text_hash AND k.scope = e.scope);

-- name: unused_texts
-- Texts, with their chunks, that no document ever had under any corpus that is left.
DELETE FROM document_texts t
WHERE NOT EXISTS (SELECT FROM documents d WHERE d.content_hash = t.content_hash)
  AND NOT EXISTS (SELECT FROM document_versions v WHERE v.content_hash = t.content_hash)
  AND NOT EXISTS (SELECT FROM indexed_documents i WHERE i.content_hash = t.content_hash);

-- name: known_ids
-- All that has a bucket: documents, tombstones included, and what somebody said of any.
SELECT doc_id FROM documents WHERE corpus = %(corpus)s
UNION SELECT doc_id FROM dead_letters WHERE corpus = %(corpus)s
UNION SELECT doc_id FROM hints WHERE corpus = %(corpus)s
UNION SELECT doc_id FROM withheld_deletions WHERE corpus = %(corpus)s
UNION SELECT doc_id FROM verdicts WHERE corpus = %(corpus)s
ORDER BY doc_id;

-- name: next_version
-- Above every version of the old buckets.
SELECT coalesce(max(version), 0) + 1 AS version FROM buckets WHERE corpus = %(corpus)s;

-- name: stamp_unmerged
-- What a living generation has not merged yet stays so in its new bucket.
UPDATE documents d SET version = %(version)s
WHERE d.corpus = %(corpus)s AND EXISTS (
    SELECT FROM generations g
    LEFT JOIN index_buckets m ON m.generation = g.generation AND m.bucket = d.bucket
    WHERE g.corpus = d.corpus AND g.state IN ('building', 'candidate', 'published', 'retired')
      AND d.version > coalesce(m.version, 0));

-- name: move_documents
-- Another bucket, nothing else.
UPDATE documents d SET bucket = m.bucket
FROM unnest(%(doc_ids)s::text[], %(buckets)s::smallint[]) m (doc_id, bucket)
WHERE d.corpus = %(corpus)s AND d.doc_id = m.doc_id;

-- name: move_dead_letters
-- Along with their documents.
UPDATE dead_letters l SET bucket = m.bucket
FROM unnest(%(doc_ids)s::text[], %(buckets)s::smallint[]) m (doc_id, bucket)
WHERE l.corpus = %(corpus)s AND l.doc_id = m.doc_id;

-- name: move_hints
-- Also of documents that nobody has seen yet.
UPDATE hints h SET bucket = m.bucket
FROM unnest(%(doc_ids)s::text[], %(buckets)s::smallint[]) m (doc_id, bucket)
WHERE h.corpus = %(corpus)s AND h.doc_id = m.doc_id;

-- name: move_withheld
-- Along with their documents.
UPDATE withheld_deletions w SET bucket = m.bucket
FROM unnest(%(doc_ids)s::text[], %(buckets)s::smallint[]) m (doc_id, bucket)
WHERE w.corpus = %(corpus)s AND w.doc_id = m.doc_id;

-- name: move_verdicts
-- Along with their documents.
UPDATE verdicts v SET bucket = m.bucket
FROM unnest(%(doc_ids)s::text[], %(buckets)s::smallint[]) m (doc_id, bucket)
WHERE v.corpus = %(corpus)s AND v.doc_id = m.doc_id;

-- name: forget_judged
-- What was judged in the old buckets says nothing of the new ones: all is judged again.
DELETE FROM judged_buckets WHERE corpus = %(corpus)s;

-- name: move_indexed
-- Along with their documents.
UPDATE indexed_documents i SET bucket = d.bucket FROM documents d
WHERE i.generation = %(generation)s AND d.corpus = %(corpus)s AND d.doc_id = i.doc_id;

-- name: move_rows
-- Along with their documents.
UPDATE {index} i SET bucket = d.bucket FROM documents d
WHERE d.corpus = %(corpus)s AND d.doc_id = i.doc_id;

-- name: forget_manifests
-- Written anew in the same transaction.
DELETE FROM index_buckets WHERE generation = %(generation)s;

-- name: rewrite_manifests
-- The sum of what each bucket serves, and up to which version that is all.
INSERT INTO index_buckets (generation, bucket, documents, chunks, words, checksum, version, run_id)
SELECT %(generation)s, b.bucket, count(s.doc_id), coalesce(sum(s.chunks), 0),
       coalesce(sum(s.words), 0), coalesce(bit_xor(s.checksum), 0), %(merged)s, %(run_id)s
FROM generate_series(0, %(buckets)s - 1) b (bucket)
LEFT JOIN indexed_documents s ON s.generation = %(generation)s AND s.bucket = b.bucket
GROUP BY b.bucket;

-- name: forget_fences
-- Of the old buckets.
DELETE FROM buckets WHERE corpus = %(corpus)s RETURNING epoch, requested;

-- name: open_fences
-- A fence a bucket, above every old one: a run that began before cannot record. Epoch 0: the
-- source has not been looked at in whole.
INSERT INTO buckets (corpus, bucket, epoch, run_id, version, requested, answered)
SELECT %(corpus)s, bucket, %(epoch)s, %(run_id)s, %(version)s, %(requested)s, %(requested)s
FROM generate_series(0, %(buckets)s - 1) bucket;

-- name: set_buckets
-- What the defs.yaml is compared with from now on.
UPDATE corpora SET buckets = %(buckets)s WHERE corpus = %(corpus)s;
