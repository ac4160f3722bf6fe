-- The indexing protocol: hints, requests, dead letters by stage, guarded deletions, erasure, checksums,
-- rate limits and costs.
SET LOCAL search_path = rag_assets, public;

-- A change counter a bucket: every write to its documents raises it. An index remembers up to which
-- count it has merged, so that a merge looks only at what came after. What is there now counts as new.
ALTER TABLE buckets
    ADD version bigint NOT NULL DEFAULT 0,
    ADD requested bigint NOT NULL DEFAULT 0,
    ADD answered bigint NOT NULL DEFAULT 0;
UPDATE buckets SET version = 1;

ALTER TABLE documents ADD version bigint NOT NULL DEFAULT 1;
ALTER TABLE documents ALTER version DROP DEFAULT;
DROP INDEX documents_by_bucket;
CREATE INDEX documents_by_version ON documents (corpus, bucket, version);
CREATE INDEX documents_deleted ON documents (corpus, observed_at) WHERE state = 'deleted';

ALTER TABLE index_buckets ADD version bigint NOT NULL DEFAULT 0;

-- Dead letters: one a document, stage and subject (the parser, chunker or embedder that failed).
ALTER TABLE dead_letters
    ADD subject text NOT NULL DEFAULT '',
    ADD content_hash bytea,
    ADD source_hash bytea,
    ADD retry_at timestamptz,
    ADD dropped boolean NOT NULL DEFAULT false;
ALTER TABLE dead_letters ALTER subject DROP DEFAULT;
UPDATE dead_letters l SET subject = CASE WHEN l.stage = 'parse' THEN d.parser ELSE '' END,
                          content_hash = d.content_hash, source_hash = d.source_hash
FROM documents d WHERE d.corpus = l.corpus AND d.doc_id = l.doc_id;
ALTER TABLE dead_letters DROP CONSTRAINT dead_letters_pkey;
ALTER TABLE dead_letters ADD PRIMARY KEY (corpus, doc_id, stage, subject);
COMMENT ON TABLE dead_letters IS 'Documents that could not be processed: at which stage, by what, and why';

CREATE TABLE hints (
    corpus        text NOT NULL REFERENCES corpora ON DELETE CASCADE,
    doc_id        text NOT NULL,
    bucket        smallint NOT NULL,
    seq           bigint GENERATED ALWAYS AS IDENTITY,
    rev           bigint,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (corpus, doc_id)
);
COMMENT ON TABLE hints IS 'Documents that may have changed at the source; a hint goes when its seq was processed';
CREATE INDEX hints_by_bucket ON hints (corpus, bucket);

-- Whether a text is still used is asked whenever a document is erased.
CREATE INDEX document_versions_by_content ON document_versions (content_hash);

-- The mass-deletion guard.
ALTER TABLE corpora
    ADD deletions_approved integer NOT NULL DEFAULT 0,
    ADD approved_at timestamptz,
    ADD judged_since timestamptz;
CREATE TABLE withheld_deletions (
    corpus text NOT NULL REFERENCES corpora ON DELETE CASCADE,
    doc_id text NOT NULL,
    bucket smallint NOT NULL,
    since  timestamptz NOT NULL DEFAULT now(),
    reason text NOT NULL CHECK (reason IN ('too many', 'empty')),
    PRIMARY KEY (corpus, doc_id)
);
COMMENT ON TABLE withheld_deletions IS 'Documents that the source lists no longer, but too many at once to believe it';

-- What must never come back. It outlives the corpus, and holds no name.
CREATE TABLE erased_documents (
    corpus    text NOT NULL,
    doc_hash  bytea NOT NULL,
    run_id    text NOT NULL,
    erased_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (corpus, doc_hash)
);
COMMENT ON TABLE erased_documents IS 'SHA-256 of the ids of erased documents: their next listing is ignored';

-- What is derived vouches for itself. (A hash of embedded text is its chunk's own.)
ALTER TABLE document_texts
    ADD pages integer[] NOT NULL DEFAULT '{}',
    ADD checksum bytea;
UPDATE document_texts SET checksum = sha256(convert_to(text, 'UTF8'));
ALTER TABLE document_texts ALTER checksum SET NOT NULL, ALTER pages DROP DEFAULT;
ALTER TABLE embeddings ADD checksum bytea;
UPDATE embeddings SET checksum = sha256(vector_send(embedding));
ALTER TABLE embeddings ALTER checksum SET NOT NULL;

-- One bucket of tokens a provider, shared by all runs.
CREATE TABLE rate_limits (
    provider     text PRIMARY KEY,
    requests     double precision NOT NULL,
    tokens       double precision NOT NULL,
    refilled_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    pace         double precision NOT NULL DEFAULT 1, -- less than 1 after it has said "too many"
    slowed_at    timestamptz,
    paused_until timestamptz
);
COMMENT ON TABLE rate_limits IS 'How many requests and tokens each provider may still be asked for now';

CREATE TABLE embedding_claims (
    scope      text NOT NULL,
    model      text NOT NULL,
    text_hash  bytea NOT NULL,
    holder     integer NOT NULL, -- its session holds an advisory lock of this number while it lives
    claimed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, model, text_hash)
);
COMMENT ON TABLE embedding_claims IS 'Texts that a run is about to pay for, so that no other does';

ALTER TABLE published_index ADD api_key_env text;

CREATE TABLE costs (
    run_id     text NOT NULL,
    corpus     text NOT NULL REFERENCES corpora ON DELETE CASCADE,
    generation integer NOT NULL,
    stage      text NOT NULL,
    model      text NOT NULL,
    requests   integer NOT NULL,
    texts      integer NOT NULL,
    tokens     bigint NOT NULL,
    usd        numeric,
    unit_price numeric,
    first_at   timestamptz NOT NULL DEFAULT now(),
    last_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, corpus, generation, stage, model)
);
COMMENT ON TABLE costs IS 'What each run asked of each model, and its price in US dollars where one is known';
COMMENT ON COLUMN costs.unit_price IS 'US dollars a million tokens, as it was then';

GRANT SELECT ON ALL SEQUENCES IN SCHEMA rag_assets TO rag_assets_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON hints, withheld_deletions, erased_documents, rate_limits,
    embedding_claims, costs
    TO rag_assets_writer;

-- What is said of a served document, in one number; manifests keep the exclusive or of them.
CREATE FUNCTION served_checksum(
    doc_id text, content_hash bytea, chunks bigint, uri text, title text, acl text[]
) RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN ('x' || left(encode(sha256(convert_to(concat_ws(
        chr(31), doc_id, encode(content_hash, 'hex'), chunks, uri, title, acl::text), 'UTF8')), 'hex'),
        16))::bit(64)::bigint;
REVOKE ALL ON FUNCTION served_checksum(text, bytea, bigint, text, text, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION served_checksum(text, bytea, bigint, text, text, text[])
    TO rag_assets_writer;

-- Postings get their primary key after the load; those that have one already keep it.
CREATE OR REPLACE FUNCTION create_generation(
    for_corpus text, with_fingerprint text, with_parser text, with_chunker text,
    with_embedder text, with_dimensions integer, with_m integer, with_ef_construction integer
) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = rag_assets, public, pg_temp
AS $$
DECLARE
    made integer;
BEGIN
    IF with_dimensions NOT BETWEEN 1 AND 4000 THEN
        RAISE EXCEPTION 'halfvec indexes hold at most 4000 dimensions, not %', with_dimensions;
    END IF;
    INSERT INTO generations (corpus, state, fingerprint, parser, chunker, embedder, dimensions,
                             hnsw_m, hnsw_ef_construction)
    VALUES (for_corpus, 'building', with_fingerprint, with_parser, with_chunker, with_embedder,
            with_dimensions, with_m, with_ef_construction)
    RETURNING generation INTO made;

    EXECUTE format($ddl$
        CREATE TABLE index_%1$s (
            doc_id    text NOT NULL,
            ord       integer NOT NULL,
            bucket    smallint NOT NULL,
            acl       text[] NOT NULL,
            text_hash bytea NOT NULL,
            words     integer NOT NULL,
            embedding halfvec(%2$s) NOT NULL,
            PRIMARY KEY (doc_id, ord)
        );
        CREATE INDEX index_%1$s_by_bucket ON index_%1$s (bucket);
        CREATE TABLE postings_%1$s (
            stem      text NOT NULL,
            doc_id    text NOT NULL,
            ord       integer NOT NULL,
            frequency smallint NOT NULL,
            words     integer NOT NULL -- the primary key comes after the load
        );
        CREATE INDEX postings_%1$s_by_document ON postings_%1$s (doc_id, ord);
        ALTER TABLE index_%1$s ENABLE ROW LEVEL SECURITY;
        ALTER TABLE index_%1$s FORCE ROW LEVEL SECURITY;
        CREATE POLICY written ON index_%1$s TO rag_assets_writer USING (true) WITH CHECK (true);
        CREATE POLICY visible ON index_%1$s FOR SELECT
            USING (acl && (SELECT principals()));
        CREATE VIEW served_%1$s WITH (security_barrier) AS
            SELECT i.doc_id, i.ord, d.title, d.uri, d.content_hash, d.run_id, d.merged_at,
                   c.heading_path, c.start_char, c.end_char, c.page, c.text, i.text_hash,
                   i.embedding
            FROM index_%1$s i
            JOIN indexed_documents d ON d.generation = %1$s AND d.doc_id = i.doc_id
            JOIN chunks c ON c.content_hash = d.content_hash AND c.parser = %3$L
                         AND c.chunker = %4$L AND c.ord = i.ord;
        GRANT SELECT, INSERT, UPDATE, DELETE ON index_%1$s, postings_%1$s TO rag_assets_writer;
        GRANT SELECT ON served_%1$s TO rag_assets_writer;
        GRANT SELECT ON index_%1$s, served_%1$s TO rag_assets_reader;
    $ddl$, made, with_dimensions, with_parser, with_chunker);
    RETURN made;
END $$;

CREATE OR REPLACE FUNCTION build_vector_index(of_generation integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = rag_assets, public, pg_temp
AS $$
DECLARE
    recipe generations;
BEGIN
    SELECT * INTO STRICT recipe FROM generations WHERE generation = of_generation
        FOR NO KEY UPDATE; -- a merge of another bucket may refer to this row meanwhile
    IF recipe.state <> 'building' THEN
        RETURN; -- another run has built it, or ended it
    END IF;
    -- In the order in which merges take the tables, so that nobody waits in a circle. Stems come in
    -- no order: a key kept during the load would double its time, and nobody searches before.
    IF NOT EXISTS (SELECT FROM pg_constraint WHERE contype = 'p'
                   AND conrelid = format('postings_%s', of_generation)::regclass) THEN
        EXECUTE format(
            'ALTER TABLE postings_%s ADD PRIMARY KEY (stem, doc_id, ord) INCLUDE (frequency, words)',
            of_generation);
    END IF;
    EXECUTE format(
        'CREATE INDEX IF NOT EXISTS index_%1$s_by_vector ON index_%1$s'
        ' USING hnsw (embedding halfvec_cosine_ops) WITH (m = %2$s, ef_construction = %3$s)',
        of_generation, recipe.hnsw_m, recipe.hnsw_ef_construction);
    -- Nothing has counted the new tables yet, and queries are planned by the counts.
    EXECUTE format('ANALYZE index_%1$s, postings_%1$s', of_generation);
    ANALYZE documents, document_texts, chunk_sets, chunks, embeddings, indexed_documents;
    UPDATE generations SET state = 'candidate' WHERE generation = of_generation;
END $$;
