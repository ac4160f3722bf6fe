"""The PostgreSQL server that comes with the product: one for each home folder, private to it."""

from rag_assets.adapters.embedded_postgres.account import WhenRoot
from rag_assets.adapters.embedded_postgres.programs import Programs, find_programs
from rag_assets.adapters.embedded_postgres.server import EmbeddedPostgres, ServerStatus

__all__ = ["EmbeddedPostgres", "Programs", "ServerStatus", "WhenRoot", "find_programs"]
