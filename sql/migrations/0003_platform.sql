-- The platform around the index: sources that are watched, stages that fail, verdicts on documents,
-- what the pipeline did and how it stands.
SET LOCAL search_path = rag_assets, public;

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
    PRIMARY KEY (corpus, stage, bucket)
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

-- What a citation is followed back through: who cut, embedded, merged and published it, by which code.
ALTER TABLE chunk_sets ADD COLUMN run_id text, ADD COLUMN code_version text;
ALTER TABLE embeddings ADD COLUMN code_version text;
ALTER TABLE indexed_documents ADD COLUMN code_version text;
ALTER TABLE published_index ADD COLUMN code_version text;

-- How long upkeep keeps what was made of earlier versions of its documents; null: for ever.
ALTER TABLE corpora ADD COLUMN kept_for interval;

-- What a bucket's listing was when it was last looked at, as a number that changes with any document.
ALTER TABLE buckets ADD COLUMN looked bigint;

GRANT SELECT, INSERT, UPDATE, DELETE ON sources, failures, verdicts, judged_buckets, index_sizes,
    pipeline_metrics TO rag_assets_writer;
