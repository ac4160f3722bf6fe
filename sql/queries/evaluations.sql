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

-- name: baseline
-- What a generation scored when readers began to see it, searched in the same way: before the
-- switch, else after it.
SELECT content, scored_at FROM evaluations
WHERE generation = %(generation)s AND golden_set = %(golden_set)s
  AND split_part(content, '/', 2) = %(how)s
ORDER BY scored_at > %(published_at)s::timestamptz,
         abs(extract(epoch FROM scored_at - %(published_at)s::timestamptz))
LIMIT 1;

-- name: line
-- What readers were served scored over time, the newest first: the scores of each generation while
-- it was published, and those with which it was.
WITH reigns AS (
    SELECT generation, published_at AS since,
           lead(published_at, 1, 'infinity') OVER (ORDER BY published_at) AS until
    FROM publications WHERE corpus = %(corpus)s
)
SELECT DISTINCT e.generation, e.golden_set, e.content, e.scored_at, e.metrics
FROM reigns r JOIN evaluations e ON e.generation = r.generation
WHERE e.scored_at < r.until AND e.scored_at >= coalesce(
    (SELECT max(b.scored_at) FROM evaluations b
     WHERE (b.generation, b.golden_set) = (e.generation, e.golden_set)
       AND b.scored_at <= r.since), r.since)
ORDER BY e.scored_at DESC LIMIT %(limit)s;

-- name: verdict
-- What the gate has said of this very case, if it was asked.
SELECT accepted, reasons, warnings, evidence FROM gate_verdicts
WHERE generation = %(generation)s AND golden_set = %(golden_set)s AND content = %(content)s
  AND rival_content = %(rival_content)s AND settings = %(settings)s;

-- name: add_verdict
-- Two runs that judge the same case say the same, unless its index has been damaged or mended.
INSERT INTO gate_verdicts (generation, rival, golden_set, content, rival_content, settings, accepted,
                           reasons, differences, warnings, evidence, run_id)
VALUES (%(generation)s, %(rival)s, %(golden_set)s, %(content)s, %(rival_content)s, %(settings)s,
        %(accepted)s, %(reasons)s, %(differences)s, %(warnings)s, %(evidence)s, %(run_id)s)
ON CONFLICT (generation, golden_set, content, rival_content, settings) DO UPDATE
SET accepted = excluded.accepted, reasons = excluded.reasons, differences = excluded.differences,
    warnings = excluded.warnings, evidence = excluded.evidence, run_id = excluded.run_id,
    decided_at = now()
WHERE (gate_verdicts.accepted, gate_verdicts.reasons)
      IS DISTINCT FROM (excluded.accepted, excluded.reasons);

-- name: decisions
-- For people: what the gate has said of the generations of a corpus, the newest first.
SELECT v.generation, v.rival, v.accepted, v.reasons, v.warnings, v.run_id, v.decided_at
FROM gate_verdicts v JOIN generations g USING (generation)
WHERE g.corpus = %(corpus)s ORDER BY v.decided_at DESC LIMIT %(limit)s;
