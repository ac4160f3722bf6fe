-- The current state of the database. The way here is in migrations/; a test proves them equal.
-- Everything lives in the schema rag_assets, owned by the owner role, so that it can share a
-- database with other things. The group roles rag_assets_writer and rag_assets_reader exist before.

CREATE SCHEMA rag_assets;
SET LOCAL search_path = rag_assets, public;

GRANT USAGE ON SCHEMA rag_assets TO rag_assets_writer, rag_assets_reader;

CREATE TABLE schema_migrations (
    version     integer PRIMARY KEY,
    name        text NOT NULL,
    checksum    text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE schema_migrations IS 'Which migrations made this schema';

CREATE TABLE corpora (
    corpus      text PRIMARY KEY,
    scope       text NOT NULL,
    buckets     integer NOT NULL CHECK (buckets BETWEEN 1 AND 100),
    created_at  timestamptz NOT NULL DEFAULT now(),
    deletions_approved integer NOT NULL DEFAULT 0,
    approved_at timestamptz,
    judged_since timestamptz,
    kept_for    interval -- how long upkeep keeps what was made of earlier versions; null: for ever
);
COMMENT ON TABLE corpora IS 'The corpora that have ever been materialized, and over how many buckets';

-- What was last observed at the source. ---------------------------------------------------------

CREATE TABLE buckets (
    corpus      text NOT NULL REFERENCES corpora ON DELETE CASCADE,
    bucket      smallint NOT NULL,
    epoch       bigint NOT NULL,
    run_id      text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    version     bigint NOT NULL DEFAULT 0, -- raised by every write to its documents; merges follow it
    requested   bigint NOT NULL DEFAULT 0, -- runs that found it held, and left it to the holder
    answered    bigint NOT NULL DEFAULT 0,
    looked      bigint, -- digest of its part of the listing that was looked at last
    PRIMARY KEY (corpus, bucket)
);
COMMENT ON TABLE buckets IS 'The fence of a bucket: who recorded it last, rising with every record';

CREATE TABLE documents (
    corpus       text NOT NULL REFERENCES corpora ON DELETE CASCADE,
    doc_id       text NOT NULL,
    bucket       smallint NOT NULL,
    rev          bigint,
    source_hash  bytea NOT NULL,
    content_hash bytea NOT NULL,
    parser       text NOT NULL,
    uri          text NOT NULL,
    title        text NOT NULL,
    metadata     jsonb NOT NULL DEFAULT '{}',
    acl          text[] NOT NULL,
    state        text NOT NULL CHECK (state IN ('live', 'deleted', 'dead')),
    run_id       text NOT NULL,
    observed_at  timestamptz NOT NULL DEFAULT now(),
    version      bigint NOT NULL,
    PRIMARY KEY (corpus, doc_id)
);
COMMENT ON TABLE documents IS 'What was last observed of each document; a deleted one stays as a tombstone';
CREATE INDEX documents_by_version ON documents (corpus, bucket, version);
CREATE INDEX documents_by_content ON documents (content_hash);
CREATE INDEX documents_deleted ON documents (corpus, observed_at) WHERE state = 'deleted';

CREATE TABLE document_versions (
    corpus        text NOT NULL REFERENCES corpora ON DELETE CASCADE,
    doc_id        text NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at  timestamptz,
    content_hash  bytea NOT NULL,
    parser        text NOT NULL,
    uri           text NOT NULL,
    run_id        text NOT NULL,
    code_version  text NOT NULL,
    PRIMARY KEY (corpus, doc_id, first_seen_at)
);
COMMENT ON TABLE document_versions IS 'The history behind a citation: each version, when it came and when it went';
CREATE UNIQUE INDEX document_versions_current ON document_versions (corpus, doc_id)
    WHERE last_seen_at IS NULL;
CREATE INDEX document_versions_by_content ON document_versions (content_hash);

CREATE TABLE dead_letters (
    corpus        text NOT NULL REFERENCES corpora ON DELETE CASCADE,
    doc_id        text NOT NULL,
    bucket        smallint NOT NULL,
    stage         text NOT NULL,
    error         text NOT NULL,
    reason        text NOT NULL,
    attempts      integer NOT NULL,
    code_version  text NOT NULL,
    run_id        text NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at  timestamptz NOT NULL DEFAULT now(),
    subject       text NOT NULL, -- the parser, chunker or embedder that failed
    content_hash  bytea,
    source_hash   bytea,
    retry_at      timestamptz,
    dropped       boolean NOT NULL DEFAULT false, -- nobody wants to hear of it; the document stays out
    PRIMARY KEY (corpus, doc_id, stage, subject)
);
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

-- What is derived: immutable, under the hash of what it was made from. ---------------------------

CREATE TABLE document_texts (
    content_hash bytea NOT NULL,
    parser       text NOT NULL,
    title        text NOT NULL,
    text         text NOT NULL,
    headings     jsonb NOT NULL,
    warnings     text[] NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    pages        integer[] NOT NULL, -- the first character of each page, where the format has pages
    checksum     bytea NOT NULL,     -- SHA-256 of the text
    PRIMARY KEY (content_hash, parser)
);
COMMENT ON TABLE document_texts IS 'The parsed text of each content';

CREATE TABLE chunk_sets (
    content_hash bytea NOT NULL,
    parser       text NOT NULL,
    chunker      text NOT NULL,
    chunks       integer NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    run_id       text, -- nobody noted who cut the first ones
    code_version text,
    PRIMARY KEY (content_hash, parser, chunker),
    FOREIGN KEY (content_hash, parser) REFERENCES document_texts ON DELETE CASCADE
);
COMMENT ON TABLE chunk_sets IS 'Says that a text has been cut, written together with its chunks';
CREATE INDEX chunk_sets_by_run ON chunk_sets (run_id);

CREATE TABLE chunks (
    content_hash bytea NOT NULL,
    parser       text NOT NULL,
    chunker      text NOT NULL,
    ord          integer NOT NULL,
    start_char   integer NOT NULL,
    end_char     integer NOT NULL CHECK (end_char > start_char),
    heading_path text[] NOT NULL,
    page         integer,
    tokens       integer NOT NULL,
    text_hash    bytea NOT NULL,
    text         text NOT NULL,
    PRIMARY KEY (content_hash, parser, chunker, ord),
    FOREIGN KEY (content_hash, parser, chunker) REFERENCES chunk_sets ON DELETE CASCADE
);
COMMENT ON TABLE chunks IS 'Passages: characters start_char to end_char of the document text';
CREATE INDEX chunks_by_text ON chunks (text_hash);

CREATE TABLE embeddings (
    scope      text NOT NULL,
    model      text NOT NULL,
    text_hash  bytea NOT NULL,
    embedding  vector NOT NULL,
    run_id     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    checksum   bytea NOT NULL, -- SHA-256 of the vector
    code_version text,
    PRIMARY KEY (scope, model, text_hash)
);
COMMENT ON TABLE embeddings IS 'Each text once a model: what has been paid for';

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
    bucket     smallint NOT NULL, -- -1: of no bucket, or from before they were told apart
    provider   text NOT NULL,
    PRIMARY KEY (run_id, corpus, bucket, generation, stage, model)
);
COMMENT ON TABLE costs IS 'What each run asked of each model for each bucket and generation, and its price in US dollars where one is known';
COMMENT ON COLUMN costs.unit_price IS 'US dollars a million tokens, as it was then';

-- What is served. -------------------------------------------------------------------------------

CREATE TABLE generations (
    generation   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    corpus       text NOT NULL REFERENCES corpora ON DELETE CASCADE,
    state        text NOT NULL
        CHECK (state IN ('building', 'candidate', 'published', 'retired', 'cancelled', 'dropped',
                         'failed')),
    fingerprint  text NOT NULL,
    parser       text NOT NULL,
    chunker      text NOT NULL,
    embedder     text NOT NULL,
    dimensions   integer NOT NULL,
    hnsw_m       integer NOT NULL,
    hnsw_ef_construction integer NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz,
    retired_at   timestamptz,
    rolled_back  boolean NOT NULL DEFAULT false,
    build        integer NOT NULL DEFAULT 1, -- an index may be built again with the same recipe
    index_kind   text NOT NULL DEFAULT 'hnsw'
        CHECK (index_kind IN ('exact', 'hnsw', 'ivfflat', 'binary')),
    ivfflat_lists integer,
    ended_at     timestamptz,
    ended_reason text,
    held         boolean NOT NULL DEFAULT false -- it has ended, and is not begun again by itself
);
COMMENT ON TABLE generations IS 'Builds of an index, each with the recipe it was made with';
CREATE UNIQUE INDEX generations_one_living_a_recipe ON generations (corpus, fingerprint, build)
    WHERE state IN ('building', 'candidate', 'published', 'retired');
CREATE UNIQUE INDEX generations_one_build ON generations (corpus) WHERE state = 'building';
CREATE UNIQUE INDEX generations_one_published ON generations (corpus) WHERE state = 'published';

CREATE TABLE indexed_documents (
    generation   integer NOT NULL REFERENCES generations ON DELETE CASCADE,
    doc_id       text NOT NULL,
    bucket       smallint NOT NULL,
    content_hash bytea NOT NULL,
    chunks       integer NOT NULL,
    words        bigint NOT NULL,
    uri          text NOT NULL,
    title        text NOT NULL,
    acl          text[] NOT NULL,
    checksum     bigint NOT NULL,
    run_id       text NOT NULL,
    merged_at    timestamptz NOT NULL DEFAULT now(),
    code_version text,
    PRIMARY KEY (generation, doc_id)
);
COMMENT ON TABLE indexed_documents IS 'What each generation serves of each document, and by which run';
CREATE INDEX indexed_documents_by_bucket ON indexed_documents (generation, bucket);
CREATE INDEX indexed_documents_by_run ON indexed_documents (generation, run_id);

CREATE TABLE index_buckets (
    generation integer NOT NULL REFERENCES generations ON DELETE CASCADE,
    bucket     smallint NOT NULL,
    documents  integer NOT NULL,
    chunks     integer NOT NULL,
    words      bigint NOT NULL,
    checksum   bigint NOT NULL,
    run_id     text NOT NULL,
    merged_at  timestamptz NOT NULL DEFAULT now(),
    version    bigint NOT NULL DEFAULT 0, -- the bucket's version up to which all is served
    PRIMARY KEY (generation, bucket)
);
COMMENT ON TABLE index_buckets IS 'The manifest of a bucket: what must be in it';

CREATE TABLE published_index (
    corpus       text PRIMARY KEY REFERENCES corpora ON DELETE CASCADE,
    generation   integer NOT NULL REFERENCES generations,
    embedder     text NOT NULL,
    retrieval    jsonb NOT NULL,
    run_id       text NOT NULL,
    reason       text NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    api_key_env  text, -- the variable that holds the key of the embedder, if it is not the usual one
    code_version text,
    index_kind   text NOT NULL DEFAULT 'hnsw'
);
COMMENT ON TABLE published_index IS 'One row a corpus: the contract between building and reading';

CREATE TABLE publications (
    corpus       text NOT NULL REFERENCES corpora ON DELETE CASCADE,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    generation   integer NOT NULL,
    replaced     integer, -- what was published before; null: nothing was
    reason       text NOT NULL,
    forced       boolean NOT NULL DEFAULT false, -- somebody has overruled the gate
    rolled_back  boolean NOT NULL DEFAULT false,
    run_id       text NOT NULL,
    code_version text,
    PRIMARY KEY (corpus, published_at)
);
COMMENT ON TABLE publications IS 'What readers saw when: each change of the published row, and why';

CREATE TABLE evaluations (
    generation  integer NOT NULL REFERENCES generations ON DELETE CASCADE,
    golden_set  text NOT NULL,
    content     text NOT NULL,
    metrics     jsonb NOT NULL,
    run_id      text NOT NULL,
    scored_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (generation, golden_set, content)
);
COMMENT ON TABLE evaluations IS 'Mean scores of a generation with a content on a golden set';

CREATE TABLE evaluation_results (
    generation  integer NOT NULL,
    golden_set  text NOT NULL,
    content     text NOT NULL,
    question_id text NOT NULL,
    metrics     jsonb NOT NULL,
    search_ms   real, -- how long its search took then; no score
    PRIMARY KEY (generation, golden_set, content, question_id),
    FOREIGN KEY (generation, golden_set, content) REFERENCES evaluations ON DELETE CASCADE
);
COMMENT ON TABLE evaluation_results IS 'The scores question by question';

CREATE TABLE gate_verdicts (
    generation    integer NOT NULL REFERENCES generations ON DELETE CASCADE,
    rival         integer, -- what it was compared with; null: with nothing
    golden_set    text NOT NULL,
    content       text NOT NULL,
    rival_content text NOT NULL, -- empty: with nothing
    settings      text NOT NULL, -- the tolerance, the floors and what else it was judged by
    accepted      boolean NOT NULL,
    reasons       text[] NOT NULL,
    differences   jsonb NOT NULL,
    run_id        text NOT NULL,
    decided_at    timestamptz NOT NULL DEFAULT now(),
    warnings      text[] NOT NULL,
    evidence      jsonb NOT NULL, -- what else was looked at: counts and shares by name
    PRIMARY KEY (generation, golden_set, content, rival_content, settings)
);
COMMENT ON TABLE gate_verdicts IS 'Whether each candidate may be published, and why; judged once for the same content';

CREATE TABLE feedback (
    corpus      text NOT NULL REFERENCES corpora ON DELETE CASCADE,
    feedback_id bigint GENERATED ALWAYS AS IDENTITY,
    given_at    timestamptz NOT NULL DEFAULT now(),
    question    text NOT NULL,
    helpful     boolean NOT NULL,
    generation  integer, -- what was read
    doc_id      text, -- the passage it is about; null: about the answer as a whole
    start_char  integer,
    end_char    integer,
    quote       text, -- the characters, so that a later version of the document is recognised
    PRIMARY KEY (corpus, feedback_id)
);
COMMENT ON TABLE feedback IS 'What people said of answers and passages; golden questions are made from it';

CREATE TABLE adoptions (
    corpus       text NOT NULL REFERENCES corpora ON DELETE CASCADE,
    run_id       text NOT NULL,
    name         text NOT NULL,
    source       text NOT NULL, -- the place of the database and the table, without user or password
    model        text NOT NULL, -- what the vectors were declared to be made by
    chunker      text NOT NULL,
    rows_read    bigint NOT NULL,
    left_out     jsonb NOT NULL, -- why to how many rows
    contents     integer NOT NULL DEFAULT 0,
    passages     bigint NOT NULL DEFAULT 0,
    vectors      bigint NOT NULL DEFAULT 0, -- that were not there before
    sampled      integer NOT NULL, -- texts embedded again to verify the declaration; 0: taken on trust
    worst_cosine double precision,
    code_version text,
    started_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    PRIMARY KEY (corpus, run_id)
);
COMMENT ON TABLE adoptions IS 'Passages and vectors taken over from tables that others have made';

-- The platform around the index. -----------------------------------------------------------------

CREATE TABLE sources (
    corpus        text PRIMARY KEY REFERENCES corpora ON DELETE CASCADE,
    listed_at     timestamptz,
    objects       integer,
    failing_since timestamptz,
    failed_at     timestamptz,
    error         text
);
COMMENT ON TABLE sources IS 'When each source was last listed, and what has kept it from being so since';

CREATE TABLE failures (
    corpus   text NOT NULL REFERENCES corpora ON DELETE CASCADE,
    stage    text NOT NULL, -- the asset
    bucket   smallint NOT NULL, -- -1 for an asset without buckets
    error    text NOT NULL,
    reason   text NOT NULL,
    attempts integer NOT NULL DEFAULT 1,
    since    timestamptz NOT NULL DEFAULT now(),
    last_at  timestamptz NOT NULL DEFAULT now(),
    run_id   text NOT NULL,
    generation integer NOT NULL, -- 0: of the stage as a whole
    PRIMARY KEY (corpus, stage, generation, bucket)
);
COMMENT ON TABLE failures IS 'What each stage of a bucket has failed with since it last succeeded';

CREATE TABLE verdicts (
    corpus        text NOT NULL REFERENCES corpora ON DELETE CASCADE,
    doc_id        text NOT NULL,
    bucket        smallint NOT NULL,
    stage         text NOT NULL CHECK (stage IN ('documents', 'chunks', 'embeddings')),
    subject       text NOT NULL, -- the parser, chunker or embedder whose work was judged
    rule          text NOT NULL,
    content_hash  bytea NOT NULL,
    quarantined   boolean NOT NULL,
    released      boolean NOT NULL DEFAULT false, -- somebody lets this content through all the same
    figures       jsonb NOT NULL, -- numbers only, never a word of the document
    run_id        text NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (corpus, doc_id, stage, subject, rule)
);
COMMENT ON TABLE verdicts IS 'Documents that break a rule of quality: which rule, by which figures';
CREATE INDEX verdicts_by_bucket ON verdicts (corpus, bucket);

CREATE TABLE judged_buckets (
    corpus  text NOT NULL REFERENCES corpora ON DELETE CASCADE,
    bucket  smallint NOT NULL,
    stage   text NOT NULL,
    subject text NOT NULL,
    rules   text NOT NULL, -- the rules and their limits; others judge all documents again
    version bigint NOT NULL, -- the bucket's version up to which its documents have been judged
    PRIMARY KEY (corpus, bucket, stage, subject)
);
COMMENT ON TABLE judged_buckets IS 'Up to which version the documents of a bucket have been judged';

CREATE TABLE index_sizes (
    generation  integer NOT NULL REFERENCES generations ON DELETE CASCADE,
    measured_at timestamptz NOT NULL DEFAULT now(),
    documents   integer NOT NULL,
    chunks      integer NOT NULL,
    PRIMARY KEY (generation, measured_at)
);
COMMENT ON TABLE index_sizes IS 'How many rows each generation had when, so that a sudden drop shows';

CREATE TABLE pipeline_metrics (
    corpus              text NOT NULL REFERENCES corpora ON DELETE CASCADE,
    measured_at         timestamptz NOT NULL DEFAULT now(),
    run_id              text NOT NULL,
    documents           integer NOT NULL,
    chunks              integer NOT NULL,
    waiting             integer NOT NULL,
    oldest_waiting_s    double precision NOT NULL,
    failed              integer NOT NULL,
    documents_an_hour   double precision NOT NULL,
    provider_errors     integer NOT NULL,
    PRIMARY KEY (corpus, measured_at)
);
COMMENT ON TABLE pipeline_metrics IS 'How each corpus stood at the end of a run, or between runs';

-- What is said of a served document, in one number; manifests keep the exclusive or of them. --------

CREATE FUNCTION served_checksum(
    doc_id text, content_hash bytea, chunks bigint, uri text, title text, acl text[]
) RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN ('x' || left(encode(sha256(convert_to(concat_ws(
        chr(31), doc_id, encode(content_hash, 'hex'), chunks, uri, title, acl::text), 'UTF8')), 'hex'),
        16))::bit(64)::bigint;

-- Who asks: set for one transaction as an array literal; unset sees nothing. ---------------------

CREATE FUNCTION principals() RETURNS text[]
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = rag_assets, public, pg_temp
    RETURN nullif(current_setting('rag_assets.principals', true), '')::text[];

-- The tables of one generation. The writer has no right to make tables; this function of the owner
-- makes them, of one form only. (Functions that run as the owner name pg_temp last: else a caller's
-- temporary table of the same name would come first, and its triggers would run as the owner.)

CREATE FUNCTION create_generation(
    for_corpus text, with_fingerprint text, with_parser text, with_chunker text,
    with_embedder text, with_dimensions integer, with_kind text, with_m integer,
    with_ef_construction integer, with_lists integer
) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = rag_assets, public, pg_temp
AS $$
DECLARE
    made integer;
    most integer := CASE WHEN with_kind IN ('hnsw', 'ivfflat') THEN 4000 ELSE 16000 END;
BEGIN
    IF with_dimensions NOT BETWEEN 1 AND most THEN
        RAISE EXCEPTION '% indexes hold at most % dimensions, not %', with_kind, most,
            with_dimensions;
    END IF;
    INSERT INTO generations (corpus, state, fingerprint, parser, chunker, embedder, dimensions,
                             index_kind, hnsw_m, hnsw_ef_construction, ivfflat_lists, build)
    SELECT for_corpus, 'building', with_fingerprint, with_parser, with_chunker, with_embedder,
           with_dimensions, with_kind, with_m, with_ef_construction, with_lists, count(*) + 1
    FROM generations WHERE corpus = for_corpus AND fingerprint = with_fingerprint
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

-- Into how many lists the vectors of a generation are sorted: as it was told, else by how many there
-- are now. Of a few, one: all of them are looked at.
CREATE FUNCTION lists_of(of_generation integer) RETURNS integer
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = rag_assets, public, pg_temp
    AS $$ SELECT coalesce(g.ivfflat_lists, least(32768, greatest(1, CASE
              WHEN m.chunks <= 1000000 THEN m.chunks / 1000 ELSE sqrt(m.chunks) END)))::integer
          FROM generations g
          CROSS JOIN LATERAL (SELECT coalesce(sum(chunks), 0) AS chunks FROM index_buckets
                              WHERE generation = g.generation) m
          WHERE g.generation = of_generation $$;

CREATE FUNCTION build_vector_index(of_generation integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = rag_assets, public, pg_temp
AS $$
DECLARE
    recipe generations;
    vectors text;
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
    vectors := CASE recipe.index_kind
        WHEN 'hnsw' THEN format(
            'hnsw (embedding halfvec_cosine_ops) WITH (m = %s, ef_construction = %s)',
            recipe.hnsw_m, recipe.hnsw_ef_construction)
        WHEN 'binary' THEN format(
            'hnsw ((binary_quantize(embedding)::bit(%s)) bit_hamming_ops)'
            ' WITH (m = %s, ef_construction = %s)',
            recipe.dimensions, recipe.hnsw_m, recipe.hnsw_ef_construction)
        WHEN 'ivfflat' THEN format(
            'ivfflat (embedding halfvec_cosine_ops) WITH (lists = %s)', lists_of(of_generation))
    END; -- an exact search needs none
    IF vectors IS NOT NULL THEN
        EXECUTE format('CREATE INDEX IF NOT EXISTS index_%1$s_by_vector ON index_%1$s USING %2$s',
                       of_generation, vectors);
    END IF;
    -- Nothing has counted the new tables yet, and queries are planned by the counts.
    EXECUTE format('ANALYZE index_%1$s, postings_%1$s', of_generation);
    ANALYZE documents, document_texts, chunk_sets, chunks, embeddings, indexed_documents;
    UPDATE generations SET state = 'candidate' WHERE generation = of_generation;
END $$;

CREATE FUNCTION end_generation(of_generation integer, into_state text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = rag_assets, public, pg_temp
AS $$
BEGIN
    IF into_state NOT IN ('cancelled', 'dropped', 'failed') THEN
        RAISE EXCEPTION 'a generation ends as cancelled, dropped or failed, not %', into_state;
    END IF;
    IF EXISTS (SELECT FROM published_index WHERE generation = of_generation) THEN
        RAISE EXCEPTION 'generation % is published', of_generation;
    END IF;
    IF to_regclass(format('postings_%s', of_generation)) IS NOT NULL THEN
        -- In the order in which readers and merges take them, so that nobody waits in a circle.
        EXECUTE format('LOCK TABLE postings_%1$s, index_%1$s IN ACCESS EXCLUSIVE MODE', of_generation);
        EXECUTE format('DROP VIEW served_%1$s', of_generation);
        EXECUTE format('DROP TABLE index_%1$s, postings_%1$s', of_generation);
    END IF;
    DELETE FROM indexed_documents WHERE generation = of_generation;
    DELETE FROM index_buckets WHERE generation = of_generation;
    UPDATE generations SET state = into_state WHERE generation = of_generation;
END $$;

-- Exact BM25 (k1 1.5, b 0.75) over the postings, which hold no permissions: the function scores,
-- then keeps what the caller's principals may see. Frequencies span the corpus.

CREATE FUNCTION search_words(of_generation integer, question_stems text[], wanted integer)
    RETURNS TABLE (doc_id text, ord integer, score double precision)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = rag_assets, public, pg_temp
AS $$
BEGIN
    RETURN QUERY EXECUTE format($query$
        WITH totals AS (
            SELECT sum(chunks)::float AS n, sum(words)::float / greatest(sum(chunks), 1) AS average
            FROM index_buckets WHERE generation = %1$s
        ), found AS (
            SELECT stem, p.doc_id, p.ord, frequency::float AS tf, p.words FROM postings_%1$s p
            WHERE stem = ANY ($1)
        ), rarity AS (
            SELECT stem, ln(1 + (n - count(*) + 0.5) / (count(*) + 0.5)) AS idf
            FROM found, totals GROUP BY stem, n
        )
        SELECT s.doc_id, s.ord, s.score
        FROM (SELECT f.doc_id, f.ord,
                     sum(idf * tf * 2.5 / (tf + 1.5 * (0.25 + 0.75 * f.words / average)))::float AS score
              FROM found f JOIN rarity USING (stem) CROSS JOIN totals
              GROUP BY f.doc_id, f.ord ORDER BY score DESC, f.doc_id, f.ord) s
        -- One by one from the best, until enough are visible: not all permissions for a few rows.
        CROSS JOIN LATERAL (SELECT FROM index_%1$s i
                            WHERE i.doc_id = s.doc_id AND i.ord = s.ord OFFSET 0) visible
        ORDER BY s.score DESC, s.doc_id, s.ord LIMIT $2
    $query$, of_generation) USING question_stems, wanted;
END $$;

CREATE FUNCTION question_stems(of_generation integer, question_words text[])
    RETURNS TABLE (word text, stem text, chunks integer, visible boolean, total bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = rag_assets, public, pg_temp
AS $$
BEGIN
    RETURN QUERY EXECUTE format($query$
        WITH asked AS (
            SELECT w.word, w.place, s.stem, EXISTS (
                SELECT FROM postings_%1$s p
                CROSS JOIN LATERAL (SELECT FROM index_%1$s i WHERE i.doc_id = p.doc_id
                                    AND i.ord = p.ord OFFSET 0) seen
                WHERE p.stem = s.stem) AS visible
            FROM unnest($1) WITH ORDINALITY w (word, place)
            CROSS JOIN LATERAL unnest(tsvector_to_array(to_tsvector('english', w.word))) s (stem)
        )
        -- A word that stands only where the caller may not read counts as one that is not there.
        SELECT word, stem, CASE WHEN visible THEN
                   (SELECT count(*)::integer FROM postings_%1$s p WHERE p.stem = asked.stem)
               ELSE 0 END,
               visible,
               (SELECT sum(b.chunks) FROM index_buckets b
                WHERE b.generation = %1$s AND EXISTS (SELECT FROM asked WHERE visible))
        FROM asked ORDER BY place, stem
    $query$, of_generation) USING question_words;
END $$;

-- Rights: the writer fills tables, the reader sees the published row and what principals may see. -

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA rag_assets FROM PUBLIC;
GRANT EXECUTE ON FUNCTION principals() TO rag_assets_writer, rag_assets_reader;
GRANT EXECUTE ON FUNCTION served_checksum(text, bytea, bigint, text, text, text[])
    TO rag_assets_writer;
GRANT EXECUTE ON FUNCTION search_words(integer, text[], integer), question_stems(integer, text[])
    TO rag_assets_writer, rag_assets_reader;
GRANT EXECUTE ON FUNCTION
    create_generation(text, text, text, text, text, integer, text, integer, integer, integer),
    lists_of(integer), build_vector_index(integer), end_generation(integer, text)
    TO rag_assets_writer;

GRANT SELECT ON ALL TABLES IN SCHEMA rag_assets TO rag_assets_writer;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA rag_assets TO rag_assets_writer;
GRANT INSERT, UPDATE, DELETE ON corpora, buckets, documents, document_versions, dead_letters,
    document_texts, chunk_sets, chunks, embeddings, indexed_documents, index_buckets,
    published_index, publications, evaluations, evaluation_results, gate_verdicts, feedback, adoptions, hints, withheld_deletions, erased_documents,
    rate_limits, embedding_claims, costs, sources, failures, verdicts, judged_buckets, index_sizes,
    pipeline_metrics TO rag_assets_writer;
GRANT UPDATE, DELETE ON generations TO rag_assets_writer;
GRANT SELECT ON schema_migrations, published_index TO rag_assets_reader;
