-- Judging documents after each stage: in the database, and only those that were written since.
-- A verdict speaks of one content; whoever judges a later one replaces it.

-- name: behind
-- Buckets in which something was written since they were judged, or by other rules.
SELECT w.number::integer AS number, b.bucket, b.version, coalesce(j.version, -1) AS judged
FROM unnest(%(stages)s::text[], %(subjects)s::text[], %(rules)s::text[])
     WITH ORDINALITY w (stage, subject, rules, number)
JOIN buckets b ON b.corpus = %(corpus)s AND b.bucket = ANY (%(buckets)s::smallint[])
LEFT JOIN judged_buckets j ON j.corpus = b.corpus AND j.bucket = b.bucket AND j.stage = w.stage
                          AND j.subject = w.subject AND j.rules = w.rules
WHERE b.version > coalesce(j.version, -1)
ORDER BY w.number, b.bucket;

-- name: by_key
-- Few documents of many are looked up, nothing has counted a new table yet, and a text is no key to
-- remember a result by.
SELECT set_config('enable_seqscan', 'off', false), set_config('enable_memoize', 'off', false);

-- name: judge_documents
-- Texts that are empty or garbled. Of a long one, its beginning, middle and end are looked at. No
-- rule: it waits for its text. What is read as another encoding has letters of Latin where each
-- byte of UTF-8 was. (A sharp s may well stand before a quotation mark.)
WITH changed AS MATERIALIZED (
    SELECT doc_id, content_hash, version FROM documents
    WHERE corpus = %(corpus)s AND bucket = %(bucket)s AND version > %(judged)s::bigint AND state = 'live'
)
SELECT c.doc_id, c.content_hash, c.version, r.rule, r.figures::text AS figures
FROM changed c
LEFT JOIN LATERAL (
    SELECT text, length(text) AS chars FROM document_texts
    WHERE content_hash = c.content_hash AND parser = %(parser)s OFFSET 0) t ON true
CROSS JOIN LATERAL (
    SELECT U&' \0009\000A\000B\000C\000D\001C\001D\001E\001F\0085\00A0\1680\2000\2001\2002\2003\2004'
           '\2005\2006\2007\2008\2009\200A\200B\2028\2029\202F\205F\3000\FEFF' AS spaces,
           CASE WHEN t.chars <= 120000 THEN t.text
           ELSE left(t.text, 40000) || substr(t.text, t.chars / 2 - 20000, 40000)
                || right(t.text, 40000) END AS sample
    OFFSET 0) s
CROSS JOIN LATERAL (
    SELECT CASE
           WHEN length(translate(left(t.text, 4 * %(min_chars)s::integer + 60), s.spaces, ''))
                >= %(min_chars)s::integer THEN %(min_chars)s::integer
           ELSE length(translate(t.text, s.spaces, '')) END AS inked,
           CASE WHEN octet_length(s.sample) = length(s.sample) THEN 0
           ELSE 1 - length(regexp_replace(
               s.sample,
               '\uFFFD|[\u00C2-\u00DE][\u0080-\u00BF\u0152\u0153\u0160\u0161\u0178\u017D\u017E\u0192'
               '\u02C6\u02DC\u2013-\u2026\u2030\u2039\u203A\u20AC\u2122]'
               '|[\u00E0-\u00EF][\u0080-\u00BF\u0152\u0153\u0160\u0161\u0178\u017D\u017E\u0192'
               '\u02C6\u02DC\u2013-\u2026\u2030\u2039\u203A\u20AC\u2122]{2}',
               '', 'g'))::float / greatest(length(s.sample), 1) END AS garbled
    OFFSET 0) m
CROSS JOIN LATERAL (
    SELECT 'empty_text', jsonb_build_object('chars', m.inked)
    WHERE t.text IS NOT NULL AND m.inked < %(min_chars)s::integer
    UNION ALL
    SELECT 'garbled_text', jsonb_build_object('share', round(m.garbled::numeric, 4))
    WHERE m.garbled > %(max_garbled)s::float
    UNION ALL
    SELECT NULL, NULL WHERE t.text IS NULL AND NOT EXISTS (
        SELECT FROM dead_letters l
        WHERE l.corpus = %(corpus)s AND l.doc_id = c.doc_id AND l.content_hash = c.content_hash
          AND l.stage = 'parse' AND l.subject = %(parser)s)) r (rule, figures)
ORDER BY c.doc_id, r.rule;

-- name: judge_chunks
-- A text is put together again from its chunks, with a space for each character between them: what
-- is missing, doubled or shifted makes another text. (Other white space than the usual is rare, and
-- slow to replace.) Adopted chunks may overlap and leave out headings: of them each by itself must be
-- its characters. No rule: the document waits to be cut.
WITH changed AS MATERIALIZED (
    SELECT doc_id, content_hash, version FROM documents
    WHERE corpus = %(corpus)s AND bucket = %(bucket)s AND version > %(judged)s::bigint AND state = 'live'
)
SELECT c.doc_id, c.content_hash, c.version, r.rule, r.figures::text AS figures
FROM changed c
LEFT JOIN LATERAL (
    SELECT chunks FROM chunk_sets
    WHERE content_hash = c.content_hash AND parser = %(parser)s AND chunker = %(chunker)s
    OFFSET 0) s ON true
LEFT JOIN LATERAL (
    SELECT text FROM document_texts
    WHERE content_hash = c.content_hash AND parser = %(parser)s OFFSET 0) t ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS found, max(length(text)) AS longest,
           count(*) FILTER (WHERE length(text) < %(few_chars)s::integer) AS short,
           count(*) - count(DISTINCT text COLLATE "C") AS repeated,
           coalesce(max(end_char), 0) AS ends,
           coalesce(string_agg(repeat(' ', start_char - before) || text, '' ORDER BY ord), '')
               AS rebuilt
    FROM (SELECT ord, text, start_char, end_char, lag(end_char, 1, 0) OVER (ORDER BY ord) AS before
          FROM chunks WHERE content_hash = c.content_hash AND parser = %(parser)s
                        AND chunker = %(chunker)s) k
    OFFSET 0) p ON s.chunks IS NOT NULL
CROSS JOIN LATERAL (
    SELECT CASE
           WHEN s.chunks IS NULL OR t.text IS NULL THEN false
           WHEN p.found <> s.chunks THEN true
           WHEN %(overlapping)s::integer = 1 THEN EXISTS (
               SELECT FROM chunks k
               WHERE k.content_hash = c.content_hash AND k.parser = %(parser)s
                 AND k.chunker = %(chunker)s
                 AND substr(t.text, k.start_char + 1, k.end_char - k.start_char) <> k.text)
           WHEN replace(replace(replace(t.text, chr(10), ' '), chr(13), ' '), chr(9), ' ')
                = replace(replace(replace(p.rebuilt, chr(10), ' '), chr(13), ' '), chr(9), ' ')
                  || repeat(' ', length(t.text) - p.ends) THEN false
           ELSE translate(t.text, w.spaces, repeat(' ', length(w.spaces)))
                <> translate(p.rebuilt, w.spaces, repeat(' ', length(w.spaces)))
                   || repeat(' ', length(t.text) - p.ends) END AS broken
    FROM (SELECT U&'\0009\000A\000B\000C\000D\001C\001D\001E\001F\0085\00A0\1680\2000\2001\2002\2003'
                 '\2004\2005\2006\2007\2008\2009\200A\2028\2029\202F\205F\3000' AS spaces) w
    OFFSET 0) m
CROSS JOIN LATERAL (
    SELECT 'broken_tiling', jsonb_build_object('chunks', p.found, 'cut', s.chunks,
                                               'chars', length(t.text), 'ends', p.ends)
    WHERE m.broken
    UNION ALL
    SELECT 'too_long', jsonb_build_object('longest', p.longest, 'most', %(max_chars)s::integer)
    WHERE p.longest > %(max_chars)s::integer
    UNION ALL
    SELECT 'too_short', jsonb_build_object('chunks', p.found, 'short', p.short)
    WHERE p.found >= %(several)s::integer AND 2 * p.short > p.found
    UNION ALL
    SELECT 'repeated_chunk', jsonb_build_object('chunks', p.found, 'repeated', p.repeated)
    WHERE p.found >= %(several)s::integer AND 2 * p.repeated > p.found
    UNION ALL
    SELECT NULL, NULL WHERE s.chunks IS NULL AND NOT EXISTS (
        SELECT FROM dead_letters l
        WHERE l.corpus = %(corpus)s AND l.doc_id = c.doc_id AND l.content_hash = c.content_hash
          AND (l.stage, l.subject) IN (('parse', %(parser)s), ('chunk', %(chunker)s)))
      AND NOT EXISTS (
        SELECT FROM verdicts q
        WHERE q.corpus = %(corpus)s AND q.doc_id = c.doc_id AND q.content_hash = c.content_hash
          AND q.quarantined AND NOT q.released
          AND (q.stage, q.subject) = ('documents', %(parser)s))) r (rule, figures)
ORDER BY c.doc_id, r.rule;

-- name: judge_embeddings
-- Vectors of another length, or of no usable one. No rule: the document waits for a vector.
WITH changed AS MATERIALIZED (
    SELECT doc_id, content_hash, version FROM documents
    WHERE corpus = %(corpus)s AND bucket = %(bucket)s AND version > %(judged)s::bigint AND state = 'live'
)
SELECT c.doc_id, c.content_hash, c.version, r.rule, r.figures::text AS figures
FROM changed c
LEFT JOIN LATERAL (
    SELECT chunks FROM chunk_sets
    WHERE content_hash = c.content_hash AND parser = %(parser)s AND chunker = %(chunker)s
    OFFSET 0) s ON true
LEFT JOIN LATERAL (
    SELECT count(e.dimensions) AS vectors, max(e.dimensions) AS most,
           count(*) FILTER (WHERE e.dimensions <> %(dimensions)s::integer) AS misfits,
           count(*) FILTER (WHERE e.dimensions = %(dimensions)s::integer
                            AND NOT e.norm BETWEEN %(least_norm)s::float AND %(greatest_norm)s::float) AS odd,
           min(e.norm) AS shortest, max(e.norm) AS longest
    FROM chunks k
    LEFT JOIN LATERAL (
        SELECT vector_dims(embedding) AS dimensions, vector_norm(embedding) AS norm FROM embeddings
        WHERE scope = (SELECT scope FROM corpora WHERE corpus = %(corpus)s)
          AND model = %(embedder)s AND text_hash = k.text_hash OFFSET 0) e ON true
    WHERE k.content_hash = c.content_hash AND k.parser = %(parser)s AND k.chunker = %(chunker)s
    OFFSET 0) p ON s.chunks IS NOT NULL
CROSS JOIN LATERAL (
    SELECT 'wrong_dimension', jsonb_build_object('vectors', p.misfits, 'wanted', %(dimensions)s::integer)
    WHERE p.misfits > 0
    UNION ALL
    SELECT 'bad_norm', jsonb_build_object('vectors', p.odd, 'shortest', p.shortest,
                                          'longest', p.longest)
    WHERE p.odd > 0
    UNION ALL
    SELECT NULL, NULL WHERE (s.chunks IS NULL OR p.vectors < s.chunks) AND NOT EXISTS (
        SELECT FROM dead_letters l
        WHERE l.corpus = %(corpus)s AND l.doc_id = c.doc_id AND l.content_hash = c.content_hash
          AND (l.stage, l.subject) IN (('parse', %(parser)s), ('chunk', %(chunker)s),
                                       ('embed', %(embedder)s)))
      AND NOT EXISTS (
        SELECT FROM verdicts q
        WHERE q.corpus = %(corpus)s AND q.doc_id = c.doc_id AND q.content_hash = c.content_hash
          AND q.quarantined AND NOT q.released
          AND (q.stage, q.subject) IN (('documents', %(parser)s),
                                       ('chunks', %(parser)s || ' ' || %(chunker)s))))
    r (rule, figures)
ORDER BY c.doc_id, r.rule;

-- name: judge_copies
-- Documents of a content that too many have: of the contents that came or changed, and of those that
-- were too many before.
WITH contents AS MATERIALIZED (
    SELECT d.content_hash
    FROM unnest(%(behind)s::smallint[], %(versions)s::bigint[]) b (bucket, judged)
    CROSS JOIN LATERAL (
        SELECT content_hash FROM documents
        WHERE corpus = %(corpus)s AND bucket = b.bucket AND version > b.judged AND state = 'live'
        OFFSET 0) d
    UNION
    SELECT content_hash FROM verdicts
    WHERE corpus = %(corpus)s AND stage = 'documents' AND subject = %(subject)s
      AND rule = 'duplicate_flood'
)
SELECT d.doc_id, d.content_hash, d.version, 'duplicate_flood' AS rule,
       jsonb_build_object('most', %(max_copies)s::integer)::text AS figures
FROM contents c
CROSS JOIN LATERAL (
    SELECT count(*) AS copies
    FROM (SELECT FROM documents WHERE content_hash = c.content_hash AND corpus = %(corpus)s
                                  AND state = 'live' LIMIT %(max_copies)s::integer + 1) m
    OFFSET 0) n
CROSS JOIN LATERAL (
    SELECT * FROM documents
    WHERE n.copies > %(max_copies)s::integer AND content_hash = c.content_hash AND corpus = %(corpus)s
      AND state = 'live' OFFSET 0) d
ORDER BY d.doc_id;

-- name: known
-- What was said before of the documents that are judged now. Current: of the content they have.
SELECT v.doc_id, v.rule, v.content_hash, v.quarantined, v.released,
       coalesce(d.state = 'live' AND d.content_hash = v.content_hash, false) AS current
FROM verdicts v LEFT JOIN documents d ON d.corpus = v.corpus AND d.doc_id = v.doc_id
WHERE v.corpus = %(corpus)s AND v.bucket = %(bucket)s AND v.stage = %(stage)s
  AND v.subject = %(subject)s AND v.rule <> 'duplicate_flood'
  AND v.rule !~ '^(expect|unexpected_rows)_'
  AND coalesce(d.version, %(judged)s::bigint + 1) > %(judged)s::bigint
ORDER BY v.doc_id, v.rule;

-- name: known_copies
-- The same of copies, which are judged all together.
SELECT v.doc_id, v.rule, v.content_hash, v.quarantined, v.released,
       coalesce(d.state = 'live' AND d.content_hash = v.content_hash, false) AS current
FROM verdicts v LEFT JOIN documents d ON d.corpus = v.corpus AND d.doc_id = v.doc_id
WHERE v.corpus = %(corpus)s AND v.stage = %(stage)s AND v.subject = %(subject)s
  AND v.rule = 'duplicate_flood'
ORDER BY v.doc_id;

-- name: known_unexpected
-- The same of what expectations found, which are judged at night.
SELECT v.doc_id, v.rule, v.content_hash, v.quarantined, v.released,
       coalesce(d.state = 'live' AND d.content_hash = v.content_hash, false) AS current
FROM verdicts v LEFT JOIN documents d ON d.corpus = v.corpus AND d.doc_id = v.doc_id
WHERE v.corpus = %(corpus)s AND v.stage = %(stage)s AND v.subject = %(subject)s
  AND v.rule ~ '^(expect|unexpected_rows)_'
ORDER BY v.doc_id, v.rule;

-- name: void
-- Verdicts that hold no more; not those that somebody has put in their place meanwhile.
DELETE FROM verdicts v
USING unnest(%(doc_id)b::text[], %(rule)b::text[], %(content_hash)b::bytea[])
      o (doc_id, rule, content_hash)
WHERE v.corpus = %(corpus)s AND v.doc_id = o.doc_id AND v.stage = %(stage)s
  AND v.subject = %(subject)s AND v.rule = o.rule AND v.content_hash = o.content_hash
RETURNING v.doc_id;

-- name: put
-- Only of documents that still have the content that was judged. What was released stays so while
-- the content does, whatever else is found in it.
INSERT INTO verdicts AS v (corpus, doc_id, bucket, stage, subject, rule, content_hash, quarantined,
                           released, figures, run_id)
SELECT d.corpus, d.doc_id, d.bucket, %(stage)s, %(subject)s, f.rule, d.content_hash, f.quarantined,
       EXISTS (SELECT FROM verdicts o WHERE o.corpus = d.corpus AND o.doc_id = d.doc_id
               AND o.content_hash = d.content_hash AND o.released),
       f.figures::jsonb, %(run_id)s
FROM unnest(%(doc_id)b::text[], %(rule)b::text[], %(content_hash)b::bytea[],
            %(quarantined)s::boolean[], %(figures)b::text[])
     f (doc_id, rule, content_hash, quarantined, figures)
JOIN documents d ON d.corpus = %(corpus)s AND d.doc_id = f.doc_id AND d.state = 'live'
                AND d.content_hash = f.content_hash
ON CONFLICT (corpus, doc_id, stage, subject, rule) DO UPDATE
SET content_hash = excluded.content_hash, bucket = excluded.bucket, figures = excluded.figures,
    quarantined = excluded.quarantined, released = excluded.released, run_id = excluded.run_id,
    first_seen_at = CASE WHEN v.content_hash = excluded.content_hash THEN v.first_seen_at
                    ELSE now() END
RETURNING v.doc_id;

-- name: follow
-- Where all had been judged, all still is: only a number has changed.
UPDATE judged_buckets j SET version = b.version FROM buckets b
WHERE j.corpus = %(corpus)s AND b.corpus = j.corpus AND b.bucket = j.bucket
  AND j.version = b.version - 1
  AND j.bucket IN (SELECT bucket FROM documents
                   WHERE corpus = %(corpus)s AND doc_id = ANY (%(doc_ids)b::text[]));

-- name: hint
-- Nothing has changed at the source, so no look at it would bring these to readers; not where the run
-- goes on to merge.
INSERT INTO hints (corpus, doc_id, bucket)
SELECT corpus, doc_id, bucket FROM documents
WHERE corpus = %(corpus)s AND doc_id = ANY (%(doc_ids)b::text[])
  AND NOT bucket = ANY (%(merged)s::smallint[])
ORDER BY doc_id
ON CONFLICT (corpus, doc_id) DO UPDATE SET seq = DEFAULT;

-- name: versions
-- Of the buckets of these documents, after they were raised.
SELECT bucket, version FROM buckets b
WHERE b.corpus = %(corpus)s
  AND b.bucket IN (SELECT bucket FROM documents
                   WHERE corpus = %(corpus)s AND doc_id = ANY (%(doc_ids)b::text[]));

-- name: advance
-- Up to where a bucket has been judged, if nobody has written there meanwhile.
INSERT INTO judged_buckets AS j (corpus, bucket, stage, subject, rules, version)
SELECT b.corpus, b.bucket, %(stage)s, %(subject)s, %(rules)s, %(version)s
FROM corpora k JOIN buckets b ON b.corpus = k.corpus
WHERE k.corpus = %(corpus)s AND b.bucket = %(bucket)s AND b.version = %(seen)s
FOR KEY SHARE OF k
ON CONFLICT (corpus, bucket, stage, subject) DO UPDATE
SET rules = excluded.rules, version = excluded.version
WHERE j.rules <> excluded.rules OR j.version < excluded.version;

-- name: release
-- This content is let through; when it changes, it is judged like any other.
UPDATE verdicts v SET released = true FROM documents d
WHERE v.corpus = %(corpus)s AND v.doc_id = %(doc_id)s AND v.quarantined AND NOT v.released
  AND d.corpus = v.corpus AND d.doc_id = v.doc_id AND d.state = 'live'
  AND d.content_hash = v.content_hash
RETURNING v.rule;

-- name: verdicts
-- What documents break now, of the work that somebody still uses.
SELECT v.doc_id, v.stage, v.subject, v.rule, v.content_hash, v.quarantined, v.released, v.figures,
       v.run_id, v.first_seen_at
FROM verdicts v
JOIN documents d ON d.corpus = v.corpus AND d.doc_id = v.doc_id AND d.state = 'live'
                AND d.content_hash = v.content_hash
WHERE v.corpus = %(corpus)s AND (%(stage)s::text IS NULL OR v.stage = %(stage)s)
  AND (v.quarantined OR NOT %(quarantined)s)
  AND ((v.stage, v.subject) = ('documents', d.parser) OR EXISTS (
      SELECT FROM generations g
      WHERE g.corpus = v.corpus AND g.state IN ('building', 'candidate', 'published', 'retired')
        AND (v.stage, v.subject) IN (
            ('documents', g.parser), ('chunks', g.parser || ' ' || g.chunker),
            ('embeddings', g.parser || ' ' || g.chunker || ' ' || g.embedder))))
ORDER BY v.doc_id, v.stage, v.subject, v.rule LIMIT %(limit)s;

-- name: tally
-- The same in numbers; the row without a rule is of all of them.
SELECT v.rule, count(DISTINCT v.doc_id)::integer AS documents,
       (count(DISTINCT v.doc_id) FILTER (WHERE v.quarantined AND NOT v.released))::integer
           AS quarantined,
       (count(DISTINCT v.doc_id) FILTER (WHERE v.released))::integer AS released,
       (count(DISTINCT v.doc_id) FILTER (WHERE NOT v.released))::integer AS unreleased,
       min(v.first_seen_at) AS since
FROM verdicts v
JOIN documents d ON d.corpus = v.corpus AND d.doc_id = v.doc_id AND d.state = 'live'
                AND d.content_hash = v.content_hash
WHERE v.corpus = %(corpus)s AND (%(stage)s::text IS NULL OR v.stage = %(stage)s)
  AND ((v.stage, v.subject) = ('documents', d.parser) OR EXISTS (
      SELECT FROM generations g
      WHERE g.corpus = v.corpus AND g.state IN ('building', 'candidate', 'published', 'retired')
        AND (v.stage, v.subject) IN (
            ('documents', g.parser), ('chunks', g.parser || ' ' || g.chunker),
            ('embeddings', g.parser || ' ' || g.chunker || ' ' || g.embedder))))
GROUP BY ROLLUP (v.rule);
