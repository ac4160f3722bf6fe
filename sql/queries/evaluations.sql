-- Scores of generations.

-- name: means
-- What a generation scored with this content on this golden set, if it did.
SELECT generation, golden_set FROM evaluations
WHERE generation = %(generation)s AND golden_set = %(golden_set)s AND content = %(content)s;

-- name: newest
-- For people: the last mean scores of a generation, whatever its content was then.
SELECT golden_set, metrics FROM evaluations WHERE generation = %(generation)s
ORDER BY scored_at DESC LIMIT 1;

-- name: results
-- Question by question.
SELECT question_id, metrics, search_ms FROM evaluation_results
WHERE generation = %(generation)s AND golden_set = %(golden_set)s AND content = %(content)s
ORDER BY question_id;

-- name: of_golden_set
-- The last results of each generation of a corpus on a golden set, whatever its content was then.
SELECT r.generation, jsonb_build_object('question_id', r.question_id, 'metrics', r.metrics) AS score
FROM (SELECT DISTINCT ON (e.generation) e.generation, e.golden_set, e.content
      FROM evaluations e JOIN generations g USING (generation)
      WHERE g.corpus = %(corpus)s AND e.golden_set = %(golden_set)s
      ORDER BY e.generation, e.scored_at DESC) last
JOIN evaluation_results r USING (generation, golden_set, content)
ORDER BY r.generation, r.question_id;

-- name: add_means
-- Written together with the results it sums up.
INSERT INTO evaluations (generation, golden_set, content, metrics, run_id)
VALUES (%(generation)s, %(golden_set)s, %(content)s, %(metrics)s, %(run_id)s)
ON CONFLICT DO NOTHING RETURNING generation;

-- name: add_result
-- One question.
INSERT INTO evaluation_results (generation, golden_set, content, question_id, metrics, search_ms)
VALUES (%(generation)s, %(golden_set)s, %(content)s, %(question_id)s, %(metrics)s, %(search_ms)s);
