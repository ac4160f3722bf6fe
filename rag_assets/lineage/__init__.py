"""The lineage of corpora, for people who review it: what depends on what, and what each run did."""
