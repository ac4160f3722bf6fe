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

-- name: document_ids
-- All of them, tombstones included.
SELECT doc_id FROM documents WHERE corpus = %(corpus)s ORDER BY doc_id;

-- name: move_documents
-- Another bucket, nothing else.
UPDATE documents d SET bucket = m.bucket
FROM unnest(%(doc_ids)s::text[], %(buckets)s::smallint[]) m (doc_id, bucket)
WHERE d.corpus = %(corpus)s AND d.doc_id = m.doc_id;

-- name: move_dead_letters
-- Along with their documents.
UPDATE dead_letters l SET bucket = d.bucket FROM documents d
WHERE l.corpus = %(corpus)s AND d.corpus = l.corpus AND d.doc_id = l.doc_id;

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
-- The sum of what each bucket serves.
INSERT INTO index_buckets (generation, bucket, documents, chunks, words, checksum, run_id)
SELECT generation, bucket, count(*), sum(chunks), sum(words), bit_xor(checksum), %(run_id)s
FROM indexed_documents WHERE generation = %(generation)s GROUP BY generation, bucket;

-- name: forget_epochs
-- The fences of the old buckets.
DELETE FROM buckets WHERE corpus = %(corpus)s RETURNING epoch;

-- name: open_epochs
-- A fence a bucket, above every old one: a run that began before cannot record.
INSERT INTO buckets (corpus, bucket, epoch, run_id)
SELECT %(corpus)s, bucket, %(epoch)s, %(run_id)s FROM generate_series(0, %(buckets)s - 1) bucket;

-- name: set_buckets
-- What the defs.yaml is compared with from now on.
UPDATE corpora SET buckets = %(buckets)s WHERE corpus = %(corpus)s;
