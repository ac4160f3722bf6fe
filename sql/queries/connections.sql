-- Settings of every connection.

-- name: settle
-- Time-outs everywhere: nothing waits or holds a lock for ever.
SELECT set_config('search_path', 'rag_assets, public', false),
       set_config('lock_timeout', '10min', false),
       set_config('statement_timeout', '1h', false),
       set_config('idle_in_transaction_session_timeout', '10min', false);

-- name: renew
-- Of a connection that is used again: cursors, roles, settings, locks, temporary tables. Prepared
-- statements stay: the client believes them to be there, whatever it is told by DISCARD ALL.
CLOSE ALL;
SET SESSION AUTHORIZATION DEFAULT;
RESET ALL;
UNLISTEN *;
SELECT pg_advisory_unlock_all();
DISCARD PLANS;
DISCARD TEMP;
DISCARD SEQUENCES;
