-- What was observed at the source.

-- name: register_corpus
-- The first run of a corpus settles its buckets and scope.
INSERT INTO corpora (corpus, scope, buckets) VALUES (%(corpus)s, %(scope)s, %(buckets)s)
ON CONFLICT (corpus) DO NOTHING;

-- name: registered_corpus
-- Compared with the defs.yaml on every run.
SELECT scope, buckets FROM corpora WHERE corpus = %(corpus)s;

-- name: hold_bucket
-- A session lock: it goes with the connection that records.
SELECT pg_advisory_lock(hashtextextended('rag_assets bucket ' || %(corpus)s, %(bucket)s));

-- name: epochs
-- The fence as it was before the source was looked at.
SELECT bucket, epoch FROM buckets WHERE corpus = %(corpus)s AND bucket = ANY (%(buckets)s);

-- name: known_documents
-- All that is recorded in these buckets, tombstones included.
SELECT doc_id, uri, source_hash, content_hash, parser, title, acl, state, rev
FROM documents WHERE corpus = %(corpus)s AND bucket = ANY (%(buckets)s);

-- name: raise_epoch
-- Gives no row when another run has recorded this bucket since we looked, or when the corpus was
-- spread over other buckets or removed; neither can happen before this transaction ends.
INSERT INTO buckets AS b (corpus, bucket, epoch, run_id, version)
SELECT corpus, %(bucket)s, %(epoch)s + 1, %(run_id)s, 1 FROM corpora
WHERE corpus = %(corpus)s AND buckets = %(buckets)s
FOR SHARE
ON CONFLICT (corpus, bucket) DO UPDATE
SET epoch = excluded.epoch, run_id = excluded.run_id, recorded_at = now(), version = b.version + 1
WHERE b.epoch = %(epoch)s
RETURNING epoch, version;

-- name: add_text
-- Immutable: the same content under the same parser is the same text.
INSERT INTO document_texts (content_hash, parser, title, text, headings, pages, warnings, checksum)
VALUES (%(content_hash)s, %(parser)s, %(title)s, %(text)s, %(headings)s, %(pages)s, %(warnings)s,
        sha256(convert_to(%(text)s, 'UTF8')))
ON CONFLICT DO NOTHING;

-- name: put_document
-- The document as it is now.
INSERT INTO documents (corpus, doc_id, bucket, rev, source_hash, content_hash, parser, uri, title,
                       acl, state, run_id, version)
VALUES (%(corpus)s, %(doc_id)s, %(bucket)s, %(rev)s, %(source_hash)s, %(content_hash)s, %(parser)s,
        %(uri)s, %(title)s, %(acl)s, %(state)s, %(run_id)s, %(version)s)
ON CONFLICT (corpus, doc_id) DO UPDATE
SET bucket = excluded.bucket, rev = excluded.rev, source_hash = excluded.source_hash,
    content_hash = excluded.content_hash, parser = excluded.parser, uri = excluded.uri,
    title = excluded.title, acl = excluded.acl, state = excluded.state, run_id = excluded.run_id,
    version = excluded.version, observed_at = now();

-- name: end_version
-- The version that was current has been superseded or has left.
UPDATE document_versions SET last_seen_at = now()
WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s AND last_seen_at IS NULL
  AND NOT (%(state)s = 'live' AND content_hash = %(content_hash)s AND parser = %(parser)s
           AND uri = %(uri)s);

-- name: begin_version
-- A live document has one current version.
INSERT INTO document_versions (corpus, doc_id, first_seen_at, content_hash, parser, uri, run_id,
                               code_version)
SELECT %(corpus)s, %(doc_id)s, clock_timestamp(), %(content_hash)s, %(parser)s, %(uri)s, %(run_id)s,
       %(code_version)s
WHERE %(state)s = 'live'
ON CONFLICT (corpus, doc_id) WHERE last_seen_at IS NULL DO NOTHING;

-- name: put_dead_letter
-- Counts the attempts while the document stays bad.
INSERT INTO dead_letters AS d (corpus, doc_id, bucket, stage, subject, error, reason, attempts,
                               code_version, run_id)
VALUES (%(corpus)s, %(doc_id)s, %(bucket)s, %(stage)s, '', %(error)s, %(reason)s, 1,
        %(code_version)s, %(run_id)s)
ON CONFLICT (corpus, doc_id, stage, subject) DO UPDATE
SET error = excluded.error, reason = excluded.reason,
    attempts = d.attempts + 1, code_version = excluded.code_version, run_id = excluded.run_id,
    last_seen_at = now();

-- name: clear_dead_letter
-- The document succeeded or left.
DELETE FROM dead_letters WHERE corpus = %(corpus)s AND doc_id = %(doc_id)s;

-- name: dead_letters
-- The documents of a corpus that wait for somebody.
SELECT doc_id, stage, error, reason, code_version, attempts FROM dead_letters
WHERE corpus = %(corpus)s ORDER BY doc_id;

-- name: count_documents
-- For people: what a bucket holds.
SELECT bucket, count(*) FILTER (WHERE state = 'live') AS live,
       count(*) FILTER (WHERE state = 'deleted') AS deleted,
       count(*) FILTER (WHERE state = 'dead') AS dead
FROM documents WHERE corpus = %(corpus)s GROUP BY bucket;

-- name: live_texts
-- The text of these documents, as they were last read.
SELECT d.doc_id, t.text FROM documents d JOIN document_texts t USING (content_hash, parser)
WHERE d.corpus = %(corpus)s AND d.state = 'live' AND d.doc_id = ANY (%(doc_ids)s);

-- name: sample_documents
-- A sample that does not change while the documents do not.
SELECT d.doc_id, t.title, t.text, t.headings, t.pages, t.warnings
FROM documents d JOIN document_texts t USING (content_hash, parser)
WHERE d.corpus = %(corpus)s AND d.state = 'live'
ORDER BY sha256(convert_to(d.doc_id, 'UTF8')) LIMIT %(limit)s;
