-- What people said of answers and passages.

-- name: speak_as
-- Who gives it, for this transaction only.
SELECT set_config('rag_assets.principals', %(principals)s::text[]::text, true);

-- name: passage
-- The characters of a passage, for who may see it.
SELECT start_char, end_char, text FROM {served} WHERE doc_id = %(doc_id)s AND ord = %(ord)s;

-- name: give
-- Of an answer as a whole.
INSERT INTO feedback (corpus, question, helpful, generation)
VALUES (%(corpus)s, %(question)s, %(helpful)s, %(generation)s) RETURNING given_at;

-- name: give_on_passage
-- Of a passage whose document is still served: an erasure waits for this, or has been before it.
INSERT INTO feedback (corpus, question, helpful, generation, doc_id, start_char, end_char, quote)
SELECT %(corpus)s, %(question)s, %(helpful)s, %(generation)s, doc_id, %(start)s, %(end)s, %(quote)s
FROM (SELECT doc_id FROM indexed_documents
      WHERE generation = %(generation)s AND doc_id = %(doc_id)s FOR KEY SHARE) d
RETURNING given_at;

-- name: given
-- All of a corpus since then, oldest first.
SELECT question, helpful, given_at, generation, doc_id, start_char AS start, end_char AS "end", quote
FROM feedback
WHERE corpus = %(corpus)s AND given_at >= coalesce(%(since)s::timestamptz, '-infinity')
ORDER BY feedback_id;
