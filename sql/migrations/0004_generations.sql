-- Generations that are planned, priced, judged and remembered: how each is searched and how it ended,
-- who published what and why, what the gate has said, and what each bucket cost.
SET LOCAL search_path = rag_assets, public;

ALTER TABLE generations DROP CONSTRAINT generations_state_check;
ALTER TABLE generations ADD CONSTRAINT generations_state_check CHECK (state IN (
    'building', 'candidate', 'published', 'retired', 'cancelled', 'dropped', 'failed'));
ALTER TABLE generations
    ADD build integer NOT NULL DEFAULT 1, -- an index may be built again with the same recipe
    ADD index_kind text NOT NULL DEFAULT 'hnsw'
        CHECK (index_kind IN ('exact', 'hnsw', 'ivfflat', 'binary')),
    ADD ivfflat_lists integer,
    ADD ended_at timestamptz,
    ADD ended_reason text,
    ADD held boolean NOT NULL DEFAULT false; -- it has ended, and is not begun again by itself
DROP INDEX generations_one_living_a_recipe;
CREATE UNIQUE INDEX generations_one_living_a_recipe ON generations (corpus, fingerprint, build)
    WHERE state IN ('building', 'candidate', 'published', 'retired');
CREATE UNIQUE INDEX generations_one_build ON generations (corpus) WHERE state = 'building';

ALTER TABLE published_index ADD index_kind text NOT NULL DEFAULT 'hnsw';

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
INSERT INTO publications (corpus, published_at, generation, replaced, reason, run_id, code_version)
SELECT g.corpus, g.published_at, g.generation,
       lag(g.generation) OVER (PARTITION BY g.corpus ORDER BY g.published_at),
       coalesce(p.reason, 'Reasons were not kept then.'), coalesce(p.run_id, ''), p.code_version
FROM generations g LEFT JOIN published_index p USING (corpus, generation)
WHERE g.published_at IS NOT NULL;

ALTER TABLE evaluation_results ADD search_ms real; -- how long its search took then; no score

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

ALTER TABLE costs
    ADD bucket smallint NOT NULL DEFAULT -1, -- -1: of no bucket, or from before they were told apart
    ADD provider text NOT NULL DEFAULT '';
UPDATE costs SET provider = split_part(model, ':', 1);
ALTER TABLE costs ALTER bucket DROP DEFAULT, ALTER provider DROP DEFAULT;
ALTER TABLE costs DROP CONSTRAINT costs_pkey;
ALTER TABLE costs ADD PRIMARY KEY (run_id, corpus, bucket, generation, stage, model);
COMMENT ON TABLE costs IS 'What each run asked of each model for each bucket and generation, and its price in US dollars where one is known';

ALTER TABLE failures ADD generation integer NOT NULL DEFAULT 0; -- 0: of the stage as a whole
ALTER TABLE failures DROP CONSTRAINT failures_pkey;
UPDATE failures SET stage = split_part(stage, ' of generation ', 1),
                    generation = split_part(stage, ' of generation ', 2)::integer
WHERE stage LIKE '% of generation %';
ALTER TABLE failures ALTER generation DROP DEFAULT;
ALTER TABLE failures ADD PRIMARY KEY (corpus, stage, generation, bucket);

-- What a run has written is found without a look at everything.
CREATE INDEX chunk_sets_by_run ON chunk_sets (run_id);
CREATE INDEX indexed_documents_by_run ON indexed_documents (generation, run_id);

-- How the nearest vectors are found is chosen for each generation.
DROP FUNCTION create_generation(text, text, text, text, text, integer, integer, integer);
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

CREATE OR REPLACE FUNCTION build_vector_index(of_generation integer) RETURNS void
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

REVOKE ALL ON FUNCTION
    create_generation(text, text, text, text, text, integer, text, integer, integer, integer),
    lists_of(integer)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    create_generation(text, text, text, text, text, integer, text, integer, integer, integer),
    lists_of(integer)
    TO rag_assets_writer;

CREATE OR REPLACE FUNCTION end_generation(of_generation integer, into_state text) RETURNS void
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

GRANT SELECT, INSERT, UPDATE, DELETE ON publications, gate_verdicts, feedback, adoptions
    TO rag_assets_writer;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA rag_assets TO rag_assets_writer;
