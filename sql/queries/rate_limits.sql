-- How fast a provider may be asked: one bucket of requests and one of tokens, filled by the database's
-- clock and shared by all runs.

-- name: take
-- Takes a request and its tokens, on credit if need be, and says in how many seconds it may be made.
-- A limit that is not set (null) holds nobody up. A bucket holds ten seconds' worth.
INSERT INTO rate_limits AS r (provider, requests, tokens)
VALUES (%(provider)s, coalesce(%(requests_a_second)s::float8 * 10, 0) - 1,
        coalesce(%(tokens_a_second)s::float8 * 10, 0) - %(tokens)s::float8)
ON CONFLICT (provider) DO UPDATE SET
    requests = coalesce(least(%(requests_a_second)s::float8 * 10, r.requests + r.pace
                              * %(requests_a_second)s::float8
                              * extract(epoch FROM clock_timestamp() - r.refilled_at)), 0) - 1,
    tokens = coalesce(least(%(tokens_a_second)s::float8 * 10, r.tokens + r.pace
                            * %(tokens_a_second)s::float8
                            * extract(epoch FROM clock_timestamp() - r.refilled_at)), 0)
             - %(tokens)s::float8,
    refilled_at = clock_timestamp()
RETURNING greatest(0, -r.requests / (%(requests_a_second)s::float8 * r.pace),
                   -r.tokens / (%(tokens_a_second)s::float8 * r.pace),
                   extract(epoch FROM r.paused_until - clock_timestamp()))::float8 AS wait_s;

-- name: settle
-- A request was answered: gives back what it did not need, and trusts the provider a little more.
UPDATE rate_limits SET tokens = tokens + %(unused)s::float8, pace = least(1, pace + 0.02)
WHERE provider = %(provider)s;

-- name: throttle
-- The provider has said "too many": everybody pauses and is slower; what many hear at once counts once.
UPDATE rate_limits SET
    pace = CASE WHEN slowed_at > clock_timestamp() - interval '5 seconds' THEN pace
                ELSE greatest(0.05, pace * 0.7) END,
    slowed_at = CASE WHEN slowed_at > clock_timestamp() - interval '5 seconds' THEN slowed_at
                     ELSE clock_timestamp() END,
    paused_until = greatest(paused_until, clock_timestamp() + make_interval(secs => %(wait_s)s::float8))
WHERE provider = %(provider)s;

-- name: hurry
-- What is lost of these with a crash of the server is a few seconds' memory.
SELECT set_config('synchronous_commit', 'off', false);
