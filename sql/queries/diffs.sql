-- What two living generations serve, held against each other. Everything is counted here: what
-- leaves the database are counts and the first names.

-- name: one_moment
-- What is counted is of one moment, though changes go on.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: documents
-- Documents of one alone, of both with other content, and of both alike.
SELECT count(*) FILTER (WHERE a.doc_id IS NOT NULL)::integer AS before,
       count(*) FILTER (WHERE b.doc_id IS NOT NULL)::integer AS after,
       count(*) FILTER (WHERE a.doc_id IS NULL)::integer AS added,
       count(*) FILTER (WHERE b.doc_id IS NULL)::integer AS removed,
       count(*) FILTER (WHERE a.content_hash <> b.content_hash)::integer AS changed
FROM (SELECT doc_id, content_hash FROM indexed_documents WHERE generation = %(before)s) a
FULL JOIN (SELECT doc_id, content_hash FROM indexed_documents WHERE generation = %(after)s) b
     USING (doc_id);

-- name: documents_of_one
-- The first of those that this generation serves and the other does not.
SELECT doc_id FROM indexed_documents s
WHERE generation = %(generation)s
  AND NOT EXISTS (SELECT FROM indexed_documents o
                  WHERE o.generation = %(other)s AND o.doc_id = s.doc_id)
ORDER BY doc_id LIMIT %(limit)s;

-- name: chunks
-- Of each document that both serve or one: how many of its texts both have, and how many one alone.
SELECT doc_id, before, after, kept, documents, total_before, total_after, total_kept FROM (
    SELECT doc_id, before, after, kept, count(*) FILTER (WHERE before > kept OR after > kept) OVER ()
               ::integer AS documents,
           sum(before) OVER ()::bigint AS total_before, sum(after) OVER ()::bigint AS total_after,
           sum(kept) OVER ()::bigint AS total_kept
    FROM (
        SELECT doc_id, sum(a)::integer AS before, sum(b)::integer AS after,
               sum(least(a, b))::integer AS kept
        FROM (
            SELECT doc_id, text_hash, count(*) FILTER (WHERE old) AS a,
                   count(*) FILTER (WHERE NOT old) AS b
            FROM (SELECT doc_id, text_hash, true AS old FROM {index}
                  UNION ALL SELECT doc_id, text_hash, false FROM {other}) texts
            GROUP BY doc_id, text_hash) hashes
        GROUP BY doc_id) of_documents) counted
ORDER BY greatest(before, after) - kept DESC, doc_id LIMIT %(limit)s;

-- name: missing
-- What readers see as it is at the source, and would see no longer in the other generation.
SELECT s.doc_id, count(*) OVER ()::integer AS total FROM indexed_documents s
JOIN documents d ON d.corpus = %(corpus)s AND d.doc_id = s.doc_id AND d.state <> 'deleted'
                AND d.content_hash = s.content_hash
WHERE s.generation = %(rival)s
  AND NOT EXISTS (SELECT FROM indexed_documents c
                  WHERE c.generation = %(candidate)s AND c.doc_id = s.doc_id)
ORDER BY s.doc_id LIMIT %(limit)s;
