"""A Dagster asset-centric data platform for retrieval-augmented generation."""

__version__ = "0.1.0"
