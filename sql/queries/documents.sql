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

-- name: try_bucket
-- The same lock, without waiting for whoever has it.
SELECT pg_try_advisory_lock(hashtextextended('rag_assets bucket ' || %(corpus)s, %(bucket)s)) AS got;

-- name: let_bucket_go
-- Before the connection ends, for only then can be seen who asked for the bucket meanwhile.
SELECT pg_advisory_unlock(hashtextextended('rag_assets bucket ' || %(corpus)s, %(bucket)s));

-- name: request_bucket
-- Whoever has the bucket sees this when done, and looks at the source once more.
INSERT INTO buckets AS b (corpus, bucket, epoch, run_id, requested)
SELECT corpus, %(bucket)s, 0, %(run_id)s, 1 FROM corpora
WHERE corpus = %(corpus)s AND buckets = %(buckets)s
ON CONFLICT (corpus, bucket) DO UPDATE SET requested = b.requested + 1;

-- name: by_key
-- For as long as the buckets are held: a few documents of many are looked up, and a plan that was
-- made while a table was small is kept while it grows.
SELECT set_config('enable_seqscan', 'off', false);

-- name: fences
-- The fence as it was before the source was looked at, and how often the bucket had been asked for.
SELECT bucket, epoch, version, requested, answered, looked FROM buckets
WHERE corpus = %(corpus)s AND bucket = ANY (%(held)s);

-- name: looked
-- Kept under the fence: whoever has looked since knows better.
UPDATE buckets SET looked = %(digest)s
WHERE corpus = %(corpus)s AND bucket = %(bucket)s AND epoch = %(epoch)s
  AND looked IS DISTINCT FROM %(digest)s;

-- name: answer
-- What was asked for before this look at the source is done with.
UPDATE buckets b SET answered = a.requested
FROM unnest(%(held)s::smallint[], %(requested)s::bigint[]) a (bucket, requested)
WHERE b.corpus = %(corpus)s AND b.bucket = a.bucket AND b.answered < a.requested;

-- name: asked_again
-- Buckets that another run asked for and left while they were held.
SELECT b.bucket FROM buckets b
JOIN unnest(%(held)s::smallint[], %(requested)s::bigint[]) a (bucket, requested) USING (bucket)
WHERE b.corpus = %(corpus)s AND b.requested > a.requested ORDER BY b.bucket;

-- name: marks
-- What a listing is compared with, of every document of a bucket, tombstones included.
SELECT doc_id, source_hash, uri, rev, state, parser = %(parser)s, acl = %(acl)s::text[]
FROM documents WHERE corpus = %(corpus)s AND bucket = %(bucket)s;

-- name: marks_of
-- The same of some documents: what a hint is compared with.
SELECT d.doc_id, d.source_hash, d.uri, d.rev, d.state, d.parser = %(parser)s,
       d.acl = %(acl)s::text[]
FROM unnest(%(doc_ids)b::text[]) i (doc_id)
CROSS JOIN LATERAL (SELECT * FROM documents o
                    WHERE o.corpus = %(corpus)s AND o.doc_id = i.doc_id OFFSET 0) d
WHERE d.bucket = %(bucket)s;

-- name: known_documents
-- All that is recorded in these buckets, tombstones included.
SELECT doc_id, uri, source_hash, content_hash, parser, title, acl, state, rev
FROM documents WHERE corpus = %(corpus)s AND bucket = ANY (%(held)s);

-- name: known_of
-- All that is recorded of some documents. (Each by its key: nothing has counted a new table yet, and
-- a plan over the whole corpus may look as cheap.)
SELECT d.doc_id, d.uri, d.source_hash, d.content_hash, d.parser, d.title, d.acl, d.state, d.rev
FROM unnest(%(doc_ids)b::text[]) i (doc_id)
CROSS JOIN LATERAL (SELECT * FROM documents o
                    WHERE o.corpus = %(corpus)s AND o.doc_id = i.doc_id OFFSET 0) d
WHERE d.bucket = ANY (%(held)s);

-- name: stored_titles
-- Texts that need not be parsed again: a rename, a copy, a file that was only touched.
SELECT t.content_hash, t.parser, t.title
FROM unnest(%(content_hashes)b::bytea[]) c (content_hash), unnest(%(parsers)b::text[]) p (parser)
CROSS JOIN LATERAL (SELECT * FROM document_texts o
                    WHERE o.content_hash = c.content_hash AND o.parser = p.parser OFFSET 0) t;

-- name: first_epoch
-- Until a bucket has been looked at in whole it has no epoch, and its version is the fence.
INSERT INTO buckets AS b (corpus, bucket, epoch, run_id, version)
SELECT corpus, %(bucket)s, CASE WHEN %(complete)s THEN 1 ELSE 0 END, %(run_id)s, 1 FROM corpora k
WHERE k.corpus = %(corpus)s AND k.buckets = %(buckets)s
  AND (%(version)s = 0 OR EXISTS (SELECT FROM buckets o
                                  WHERE o.corpus = k.corpus AND o.bucket = %(bucket)s))
FOR SHARE OF k
ON CONFLICT (corpus, bucket) DO UPDATE
SET epoch = excluded.epoch, run_id = excluded.run_id, recorded_at = now(), version = b.version + 1
WHERE b.epoch = 0 AND b.version = %(version)s
RETURNING epoch, version;

-- name: next_epoch
-- Gives no row when another run has recorded this bucket since we looked, or when the corpus was
-- spread over other buckets or removed; neither can happen before this transaction ends.
WITH registered AS (
    SELECT corpus FROM corpora WHERE corpus = %(corpus)s AND buckets = %(buckets)s FOR SHARE)
UPDATE buckets b
SET epoch = b.epoch + 1, run_id = %(run_id)s, recorded_at = now(),
    version = b.version + CASE WHEN %(changes)s THEN 1 ELSE 0 END
FROM registered
WHERE b.corpus = registered.corpus AND b.bucket = %(bucket)s AND b.epoch = %(epoch)s
RETURNING b.epoch, b.version;

-- name: add_texts
-- Immutable: the same content under the same parser is the same text.
INSERT INTO document_texts (content_hash, parser, title, text, headings, pages, warnings, checksum)
SELECT t.content_hash, t.parser, t.title, t.text, t.headings::jsonb,
       ARRAY(SELECT value::integer FROM jsonb_array_elements_text(t.pages::jsonb)),
       ARRAY(SELECT jsonb_array_elements_text(t.warnings::jsonb)),
       sha256(convert_to(t.text, 'UTF8'))
FROM unnest(%(content_hash)b::bytea[], %(parser)b::text[], %(title)b::text[], %(text)b::text[],
            %(headings)b::text[], %(pages)b::text[], %(warnings)b::text[])
     t (content_hash, parser, title, text, headings, pages, warnings)
ON CONFLICT DO NOTHING;

-- name: share_texts
-- Whoever erases another document with the same content waits for this one, or has taken its text.
SELECT t.content_hash
FROM unnest(%(content_hash)b::bytea[], %(parser)b::text[]) d (content_hash, parser)
CROSS JOIN LATERAL (SELECT o.content_hash FROM document_texts o
                    WHERE o.content_hash = d.content_hash AND o.parser = d.parser
                    FOR KEY SHARE) t;

-- name: put_documents
-- The documents as they are now.
INSERT INTO documents (corpus, doc_id, bucket, rev, source_hash, content_hash, parser, uri, title,
                       acl, state, run_id, version)
SELECT %(corpus)s, d.doc_id, %(bucket)s, d.rev, d.source_hash, d.content_hash, d.parser, d.uri,
       d.title, ARRAY(SELECT jsonb_array_elements_text(d.acl::jsonb)), d.state, %(run_id)s,
       %(version)s
FROM unnest(%(doc_id)b::text[], %(rev)s::bigint[], %(source_hash)b::bytea[],
            %(content_hash)b::bytea[], %(parser)b::text[], %(uri)b::text[], %(title)b::text[],
            %(acl)b::text[], %(state)b::text[])
     d (doc_id, rev, source_hash, content_hash, parser, uri, title, acl, state)
ON CONFLICT (corpus, doc_id) DO UPDATE
SET bucket = excluded.bucket, rev = excluded.rev, source_hash = excluded.source_hash,
    content_hash = excluded.content_hash, parser = excluded.parser, uri = excluded.uri,
    title = excluded.title, acl = excluded.acl, state = excluded.state, run_id = excluded.run_id,
    version = excluded.version, observed_at = now();

-- name: end_versions
-- The versions that were current have been superseded or have left.
UPDATE document_versions v SET last_seen_at = now()
WHERE v.ctid = ANY (ARRAY(
    SELECT c.place
    FROM unnest(%(doc_id)b::text[], %(content_hash)b::bytea[], %(parser)b::text[], %(uri)b::text[],
                %(state)b::text[]) d (doc_id, content_hash, parser, uri, state)
    CROSS JOIN LATERAL (
        SELECT o.ctid AS place, o.content_hash, o.parser, o.uri FROM document_versions o
        WHERE o.corpus = %(corpus)s AND o.doc_id = d.doc_id AND o.last_seen_at IS NULL OFFSET 0) c
    WHERE NOT (d.state = 'live' AND c.content_hash = d.content_hash AND c.parser = d.parser
               AND c.uri = d.uri)));

-- name: begin_versions
-- A live document has one current version.
INSERT INTO document_versions (corpus, doc_id, first_seen_at, content_hash, parser, uri, run_id,
                               code_version)
SELECT %(corpus)s, d.doc_id, clock_timestamp(), d.content_hash, d.parser, d.uri, %(run_id)s,
       %(code_version)s
FROM unnest(%(doc_id)b::text[], %(content_hash)b::bytea[], %(parser)b::text[], %(uri)b::text[],
            %(state)b::text[]) d (doc_id, content_hash, parser, uri, state)
WHERE d.state = 'live'
ON CONFLICT (corpus, doc_id) WHERE last_seen_at IS NULL DO NOTHING;

-- name: clear_dead_letters
-- Of documents that left, or that were read just now and did not fail there again; a letter of a
-- later stage speaks of one content and one code, and is void with either.
DELETE FROM dead_letters v
WHERE v.ctid = ANY (ARRAY(
    SELECT l.place
    FROM unnest(%(doc_id)b::text[], %(content_hash)b::bytea[], %(state)b::text[])
         d (doc_id, content_hash, state)
    CROSS JOIN LATERAL (
        SELECT o.ctid AS place, o.* FROM dead_letters o
        WHERE o.corpus = %(corpus)s AND o.doc_id = d.doc_id OFFSET 0) l
    WHERE d.state = 'deleted'
       OR (l.stage IN ('chunk', 'embed') AND (l.content_hash IS DISTINCT FROM d.content_hash
           OR (l.code_version <> %(by_code)s AND NOT l.dropped)))
       OR (l.stage IN ('read', 'parse') AND NOT EXISTS (
               SELECT FROM unnest(%(failed)b::text[], %(stage)b::text[], %(subject)b::text[])
                           f (doc_id, stage, subject)
               WHERE (f.doc_id, f.stage, f.subject) = (l.doc_id, l.stage, l.subject)))));

-- name: put_dead_letters
-- Counts the attempts while the content stays the same. Only a failure to read is tried again by
-- itself: after 1, 4, 16 minutes and so on, six times in all.
INSERT INTO dead_letters AS l (corpus, doc_id, bucket, stage, subject, error, reason, attempts,
                               code_version, run_id, content_hash, source_hash, retry_at)
SELECT %(corpus)s, f.doc_id, %(bucket)s, f.stage, f.subject, f.error, f.reason, 1,
       f.code_version, %(run_id)s, f.content_hash, f.source_hash,
       CASE WHEN f.stage = 'read' THEN now() + interval '1 minute' END
FROM unnest(%(failed)b::text[], %(stage)b::text[], %(subject)b::text[], %(error)b::text[],
            %(reason)b::text[], %(code_version)b::text[], %(content_hash)b::bytea[],
            %(source_hash)b::bytea[])
     f (doc_id, stage, subject, error, reason, code_version, content_hash, source_hash)
ON CONFLICT (corpus, doc_id, stage, subject) DO UPDATE
SET error = excluded.error, reason = excluded.reason, code_version = excluded.code_version,
    run_id = excluded.run_id, bucket = excluded.bucket, last_seen_at = now(), dropped = false,
    content_hash = excluded.content_hash, source_hash = excluded.source_hash,
    (attempts, first_seen_at, retry_at) = (
        SELECT n.attempts, n.since,
               CASE WHEN l.stage = 'read' AND n.attempts < 6
                    THEN now() + interval '1 minute' * 4 ^ (n.attempts - 1) END
        FROM (SELECT CASE WHEN same THEN l.attempts + 1 ELSE 1 END AS attempts,
                     CASE WHEN same THEN l.first_seen_at ELSE now() END AS since
              FROM (SELECT (l.content_hash, l.source_hash) IS NOT DISTINCT FROM
                           (excluded.content_hash, excluded.source_hash) AS same) s) n);

-- name: reopening
-- What a run must know of its dead letters: which may be tried again, and when.
SELECT doc_id, stage, subject, error, reason, code_version, attempts, content_hash, source_hash,
       first_seen_at, last_seen_at, retry_at, dropped
FROM dead_letters
WHERE corpus = %(corpus)s AND bucket = ANY (%(held)s)
  AND (stage IN ('read', 'parse') OR code_version <> %(code_version)s);

-- name: now
-- The clock that all runs share.
SELECT clock_timestamp() AS now;

-- name: erased
-- What must never come back.
SELECT doc_hash FROM erased_documents WHERE corpus = %(corpus)s;

-- name: pending_hints
-- Before the source is looked at: a hint that comes later stays for the next run.
SELECT doc_id, seq, rev FROM hints
WHERE corpus = %(corpus)s AND bucket = ANY (%(held)s) ORDER BY seq;

-- name: forget_hints
-- Each up to the seq that was looked at: the same key may have been hinted at anew. (That is asked of
-- the row itself too, for it may change while its lock is waited for.)
DELETE FROM hints h
WHERE h.seq = ANY (%(seq)s::bigint[]) AND h.ctid = ANY (ARRAY(
    SELECT o.place FROM unnest(%(doc_id)b::text[], %(seq)s::bigint[]) d (doc_id, seq)
    CROSS JOIN LATERAL (SELECT o.ctid AS place, o.seq FROM hints o
                        WHERE o.corpus = %(corpus)s AND o.doc_id = d.doc_id OFFSET 0) o
    WHERE o.seq = d.seq));

-- name: add_hints
-- A hint that is there already gets a new seq, so that a run that has read it leaves it.
INSERT INTO hints AS h (corpus, doc_id, bucket, rev)
SELECT %(corpus)s, d.doc_id, d.bucket, d.rev
FROM unnest(%(doc_id)b::text[], %(buckets)s::smallint[], %(rev)s::bigint[]) d (doc_id, bucket, rev)
ORDER BY d.doc_id
ON CONFLICT (corpus, doc_id) DO UPDATE SET seq = DEFAULT, rev = greatest(h.rev, excluded.rev);

-- name: share_corpus
-- Until this transaction ends nobody spreads the corpus over other buckets or removes it.
SELECT scope, buckets FROM corpora WHERE corpus = %(corpus)s FOR SHARE;

-- name: withheld
-- Deletions that were not believed in these buckets.
SELECT doc_id, reason, since FROM withheld_deletions
WHERE corpus = %(corpus)s AND bucket = ANY (%(held)s);

-- name: withhold
-- Keeps since when.
INSERT INTO withheld_deletions AS w (corpus, doc_id, bucket, reason)
SELECT %(corpus)s, d.doc_id, %(bucket)s, d.reason
FROM unnest(%(doc_id)b::text[], %(reason)b::text[]) d (doc_id, reason)
ON CONFLICT (corpus, doc_id) DO UPDATE SET reason = excluded.reason, bucket = excluded.bucket
WHERE w.reason <> excluded.reason;

-- name: withhold_no_more
-- They are listed again, deleted, or erased.
DELETE FROM withheld_deletions
WHERE corpus = %(corpus)s AND bucket = %(bucket)s AND NOT doc_id = ANY (%(doc_id)b::text[]);

-- name: withheld_since
-- What came after the source was first doubted says nothing for it.
SELECT min(since) AS since FROM withheld_deletions WHERE corpus = %(corpus)s;

-- name: withheld_deletions
-- For people and for the check.
SELECT doc_id, reason, since FROM withheld_deletions WHERE corpus = %(corpus)s ORDER BY doc_id;

-- name: live_elsewhere
-- Held against a whole listing when deletions are judged.
SELECT doc_id, source_hash, content_hash FROM documents
WHERE corpus = %(corpus)s AND state = 'live' AND NOT bucket = ANY (%(held)s);

-- name: content_that_lives
-- Of these contents those that a document holds which is not gone.
SELECT DISTINCT content_hash FROM documents
WHERE corpus = %(corpus)s AND state = 'live' AND content_hash = ANY (%(content_hashes)b::bytea[])
  AND NOT doc_id = ANY (%(gone)b::text[]);

-- name: gone_lately
-- Deletions of the last 24 hours, or since the last approval, whose content did not live on under
-- another id; what became of it there later makes a move no deletion.
SELECT count(*) AS gone FROM documents d JOIN corpora c USING (corpus)
WHERE d.corpus = %(corpus)s AND d.state = 'deleted'
  AND d.observed_at > greatest(now() - interval '24 hours', c.judged_since)
  AND EXISTS (SELECT FROM document_versions v WHERE v.corpus = d.corpus AND v.doc_id = d.doc_id)
  AND NOT EXISTS (SELECT FROM document_versions o
                  WHERE o.corpus = d.corpus AND o.content_hash = d.content_hash
                    AND o.doc_id <> d.doc_id AND NOT o.doc_id = ANY (%(gone)b::text[])
                    AND (o.last_seen_at IS NULL OR o.last_seen_at > d.observed_at));

-- name: live_before
-- Documents that were there before then: what a share of deletions is a share of.
SELECT count(*) AS live FROM documents d
WHERE d.corpus = %(corpus)s AND d.state = 'live' AND EXISTS (
    SELECT FROM document_versions v
    WHERE v.corpus = d.corpus AND v.doc_id = d.doc_id AND v.first_seen_at < %(before)s);

-- name: approval
-- The ceiling that somebody set within a day, less what it was used for.
SELECT deletions_approved AS ceiling FROM corpora
WHERE corpus = %(corpus)s AND approved_at > now() - interval '24 hours';

-- name: use_approval
-- Gives no row when it was used up or withdrawn meanwhile.
UPDATE corpora SET deletions_approved = deletions_approved - %(used)s, judged_since = now()
WHERE corpus = %(corpus)s AND deletions_approved >= %(used)s
  AND approved_at > now() - interval '24 hours'
RETURNING corpus;

-- name: approve_deletions
-- Evaluated when the source is listed next.
UPDATE corpora SET deletions_approved = %(up_to)s, approved_at = now()
WHERE corpus = %(corpus)s RETURNING corpus;

-- name: dead_letters
-- The documents of a corpus that wait for somebody.
SELECT doc_id, stage, subject, error, reason, code_version, attempts, content_hash, source_hash,
       first_seen_at, last_seen_at, retry_at
FROM dead_letters
WHERE corpus = %(corpus)s AND NOT dropped
  AND (%(doc_id)s::text IS NULL OR doc_id = %(doc_id)s)
ORDER BY doc_id, stage, subject;

-- name: buckets_of_letters
-- Locked in one order before anything of theirs is written.
SELECT b.bucket FROM buckets b
WHERE b.corpus = %(corpus)s AND b.bucket IN (
    SELECT l.bucket FROM dead_letters l WHERE l.corpus = %(corpus)s
      AND (%(doc_ids)b::text[] IS NULL OR l.doc_id = ANY (%(doc_ids)b::text[])))
ORDER BY b.bucket FOR UPDATE;

-- name: buckets_of_documents
-- The same for documents that have no letter yet.
SELECT b.bucket FROM buckets b
WHERE b.corpus = %(corpus)s AND b.bucket IN (
    SELECT d.bucket FROM documents d
    WHERE d.corpus = %(corpus)s AND d.doc_id = ANY (%(doc_ids)b::text[]))
ORDER BY b.bucket FOR UPDATE;

-- name: reopen_read
-- The next run reads and parses these documents again.
UPDATE dead_letters l SET retry_at = now(), dropped = false
WHERE l.corpus = %(corpus)s AND l.stage IN ('read', 'parse')
  AND CASE WHEN %(doc_ids)b::text[] IS NULL THEN NOT dropped
      ELSE l.doc_id = ANY (%(doc_ids)b::text[]) END
RETURNING doc_id;

-- name: reopen_derived
-- The next run cuts and embeds these documents again.
DELETE FROM dead_letters l
WHERE l.corpus = %(corpus)s AND l.stage IN ('chunk', 'embed')
  AND CASE WHEN %(doc_ids)b::text[] IS NULL THEN NOT dropped
      ELSE l.doc_id = ANY (%(doc_ids)b::text[]) END
RETURNING doc_id;

-- name: drop_letters
-- The letter stays, unseen, so that the document stays out until it changes.
UPDATE dead_letters l SET dropped = true, retry_at = NULL
WHERE l.corpus = %(corpus)s AND NOT dropped
  AND (%(doc_ids)b::text[] IS NULL OR l.doc_id = ANY (%(doc_ids)b::text[]))
RETURNING doc_id;

-- name: add_letters_of_derived
-- Only of documents that still have the content that failed; returns whom it concerns.
INSERT INTO dead_letters AS l (corpus, doc_id, bucket, stage, subject, error, reason, attempts,
                               code_version, run_id, content_hash, source_hash)
SELECT d.corpus, d.doc_id, d.bucket, f.stage, f.subject, f.error, f.reason, 1, f.code_version,
       %(run_id)s, d.content_hash, d.source_hash
FROM unnest(%(failed)b::text[], %(stage)b::text[], %(subject)b::text[], %(error)b::text[],
            %(reason)b::text[], %(code_version)b::text[], %(content_hash)b::bytea[])
     f (doc_id, stage, subject, error, reason, code_version, content_hash)
JOIN documents d ON d.corpus = %(corpus)s AND d.doc_id = f.doc_id AND d.state = 'live'
                AND d.content_hash = f.content_hash
ON CONFLICT (corpus, doc_id, stage, subject) DO UPDATE
SET error = excluded.error, reason = excluded.reason, code_version = excluded.code_version,
    run_id = excluded.run_id, bucket = excluded.bucket, last_seen_at = now(), dropped = false,
    attempts = CASE WHEN l.content_hash = excluded.content_hash THEN l.attempts + 1 ELSE 1 END,
    content_hash = excluded.content_hash, source_hash = excluded.source_hash
RETURNING doc_id;

-- name: touch_buckets
-- Merges look again at what is stamped next.
UPDATE buckets b SET version = b.version + 1
WHERE b.corpus = %(corpus)s AND b.bucket IN (
    SELECT d.bucket FROM documents d
    WHERE d.corpus = %(corpus)s AND d.doc_id = ANY (%(doc_ids)b::text[]));

-- name: touch_documents
-- With the version that their bucket was raised to in this transaction.
UPDATE documents d SET version = b.version FROM buckets b
WHERE d.corpus = %(corpus)s AND d.doc_id = ANY (%(doc_ids)b::text[])
  AND b.corpus = d.corpus AND b.bucket = d.bucket;

-- name: live_documents
-- For people: what a share of deletions is a share of.
SELECT count(*) AS live FROM documents WHERE corpus = %(corpus)s AND state = 'live';

-- name: count_documents
-- For people: what a bucket holds.
SELECT bucket, count(*) FILTER (WHERE state = 'live') AS live,
       count(*) FILTER (WHERE state = 'deleted') AS deleted,
       count(*) FILTER (WHERE state = 'dead') AS dead
FROM documents
WHERE corpus = %(corpus)s AND (%(buckets)s::smallint[] IS NULL OR bucket = ANY (%(buckets)s))
GROUP BY bucket;

-- name: fingerprint_of_buckets
-- What of a corpus is new when it was removed and indexed again is its birth.
SELECT coalesce(left(encode(sha256(convert_to(string_agg(
    concat_ws(' ', b.bucket, b.version, c.created_at AT TIME ZONE 'UTC'), ',' ORDER BY b.bucket
), 'UTF8')), 'hex'), 16), 'nothing') AS fingerprint
FROM buckets b JOIN corpora c USING (corpus)
WHERE b.corpus = %(corpus)s AND b.bucket = ANY (%(buckets)s::smallint[]);

-- name: live_texts
-- The text of these documents as this parser read them; as they were last read, without one.
SELECT d.doc_id, t.text FROM documents d
JOIN document_texts t ON t.content_hash = d.content_hash
                     AND t.parser = coalesce(%(parser)s::text, d.parser)
WHERE d.corpus = %(corpus)s AND d.state = 'live' AND d.doc_id = ANY (%(doc_ids)s);

-- name: page_of_live_texts
-- The next of all, by their ids.
SELECT d.doc_id, t.title, t.text FROM documents d JOIN document_texts t USING (content_hash, parser)
WHERE d.corpus = %(corpus)s AND d.state = 'live' AND d.doc_id > %(after)s
ORDER BY d.doc_id LIMIT %(limit)s;

-- name: sample_documents
-- A sample that does not change while the documents do not; of the texts as above.
SELECT d.doc_id, t.title, t.text, t.headings, t.pages, t.warnings
FROM documents d
JOIN document_texts t ON t.content_hash = d.content_hash
                     AND t.parser = coalesce(%(parser)s::text, d.parser)
WHERE d.corpus = %(corpus)s AND d.state = 'live'
ORDER BY sha256(convert_to(d.doc_id, 'UTF8')) LIMIT %(limit)s;
