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
INSERT INTO publications (corpus, published_at, generation, reason, run_id, code_version)
SELECT corpus, published_at, generation, reason, run_id, code_version FROM published_index;

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

GRANT SELECT, INSERT, UPDATE, DELETE ON publications, gate_verdicts, feedback TO rag_assets_writer;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA rag_assets TO rag_assets_writer;
