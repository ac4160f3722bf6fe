"""Where what is served came from, and what one run has changed: read only, with ids and no text."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect
from rag_assets.errors import NotPublishedError, UnknownDocumentError
from rag_assets.model import Change, ChunkOrigin, CostKey, CostLine, ModelCost, Work

if TYPE_CHECKING:
    from rag_assets.adapters.postgres.connections import Connection

NAMED = 50
"""How many documents of a change are named."""


class PostgresProvenance:
    def __init__(self, url: str) -> None:
        self._url = url

    def origin(
        self, corpus: str, doc_id: str, number: int, *, generation: int | None = None
    ) -> ChunkOrigin:
        """One chunk of a generation, the published one where none is named, back to its source."""
        with connect(self._url) as connection:
            made = _generation(connection, corpus, generation)
            which = made | {"doc_id": doc_id, "ord": number}
            served = connection.execute(_query("served"), which).fetchone()
            if served is None:
                raise _not_served(connection, which)
            if served["text_hash"] is None:
                raise UnknownDocumentError(
                    f"{doc_id} has {served['chunks']} chunks in generation {made['generation']} of"
                    f" {corpus}, from #0 on: there is no #{number}. `rag-assets search` shows them."
                )
            return _origin(which, served, _rest(connection, which | served))

    def versions(self, corpus: str, buckets: Sequence[int]) -> Mapping[int, int]:
        """How often each bucket has been written: asked before a run, it tells what came after."""
        which = {"corpus": corpus, "buckets": list(buckets)}
        with connect(self._url) as connection:
            rows = connection.execute(_query("versions_of_buckets"), which).fetchall()
        return dict.fromkeys(buckets, 0) | {row["bucket"]: row["version"] for row in rows}

    def changes(self, corpus: str, run_id: str, since: Mapping[int, int]) -> list[Change]:
        """What a run has made of the documents of these buckets, which had these versions."""
        which = {
            "corpus": corpus,
            "run_id": run_id,
            "buckets": list(since),
            "versions": list(since.values()),
            "named": NAMED,
        }
        with connect(self._url) as connection:
            rows = connection.execute(_query("changed_by"), which).fetchall()
        return [
            Change(row["change"], row["documents"], tuple(row["doc_ids"]), bucket=row["bucket"])
            for row in rows
        ]

    def costs(self, corpus: str, run_id: str) -> list[ModelCost]:
        """What a run has asked of each model."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("cost_of_run"), {"corpus": corpus, "run_id": run_id})
            return [ModelCost(**row) for row in rows]

    def spent(
        self,
        corpus: str | None,
        *,
        by: CostKey,
        since: datetime | None = None,
        runs: Sequence[str] | None = None,
    ) -> list[CostLine]:
        """What models were asked for and what it cost, of some runs or of all."""
        which = {"corpus": corpus, "by": by, "since": since}
        asked = which | {"runs": None if runs is None else list(runs)}
        with connect(self._url) as connection:
            rows = connection.execute(queries.load("costs")["spent"], asked).fetchall()
        return [CostLine(**row | {"unit_prices": tuple(row["unit_prices"] or ())}) for row in rows]


def _generation(connection: "Connection", corpus: str, number: int | None) -> dict[str, Any]:
    which = {"corpus": corpus, "generation": number}
    found = connection.execute(_query("living"), which).fetchone()
    if found is None:
        wanted = "no published" if number is None else f"no living generation {number}; it has no"
        raise NotPublishedError(
            f"Corpus {corpus!r} has {wanted} index to follow a chunk in. `rag-assets status` lists"
            " its generations."
        )
    return found


def _not_served(connection: "Connection", which: Mapping[str, Any]) -> UnknownDocumentError:
    observed = connection.execute(_query("observed"), {**which, "content_hash": None}).fetchone()
    number, corpus, doc_id = which["generation"], which["corpus"], which["doc_id"]
    if observed is None:
        return UnknownDocumentError(
            f"Corpus {corpus!r} has no document {doc_id!r}. A chunk is written as `rag-assets"
            " search` and `ask` show it: DOC_ID#NUMBER."
        )
    return UnknownDocumentError(
        f"Generation {number} of {corpus!r} does not serve {doc_id!r}: the document is"
        f" {observed['state']} since {observed['observed_at']:%Y-%m-%d %H:%M}, by run"
        f" {observed['run_id']}. Another generation may: name it with --generation."
    )


def _rest(connection: "Connection", which: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    names = ("version", "observed", "embedded", "publication")
    found = {name: connection.execute(_query(name), which).fetchone() for name in names}
    return {name: row or {} for name, row in found.items()}


def _origin(
    which: Mapping[str, Any], served: Mapping[str, Any], rest: Mapping[str, Mapping[str, Any]]
) -> ChunkOrigin:
    version, observed, embedded = rest["version"], rest["observed"], rest["embedded"]
    return ChunkOrigin(
        corpus=which["corpus"],
        generation=which["generation"],
        state=which["state"],
        doc_id=which["doc_id"],
        ord=which["ord"],
        start=served["start_char"],
        end=served["end_char"],
        heading_path=tuple(served["heading_path"]),
        page=served["page"],
        tokens=served["tokens"],
        title=served["title"],
        uri=served["uri"],
        acl=tuple(served["acl"]),
        bucket=served["bucket"],
        content_hash=served["content_hash"],
        text_hash=served["text_hash"],
        source_hash=observed.get("source_hash"),
        first_seen_at=version.get("first_seen_at"),
        last_seen_at=version.get("last_seen_at"),
        current=observed.get("state") == "live" and bool(observed.get("same_content")),
        document_state=observed.get("state"),
        fingerprint=which["fingerprint"],
        observed=Work(
            which["parser"],
            version.get("run_id"),
            version.get("code_version"),
            version.get("first_seen_at"),
        ),
        cut=Work(which["chunker"], served["cut_by"], served["cut_with"], served["cut_at"]),
        embedded=Work(
            which["embedder"],
            embedded.get("run_id"),
            embedded.get("code_version"),
            embedded.get("created_at"),
        ),
        merged=Work(
            f"index_{which['generation']}",
            served["run_id"],
            served["code_version"],
            served["merged_at"],
        ),
        published=_publication(which, rest["publication"]),
        publication_reason=rest["publication"].get("reason"),
        run_tokens=_number(embedded.get("tokens")),
        run_usd=embedded.get("usd"),
    )


def _publication(which: Mapping[str, Any], row: Mapping[str, Any]) -> Work | None:
    """None: readers see another generation."""
    if not row:
        return None
    return Work(
        f"generation {which['generation']}",
        row["run_id"],
        row["code_version"],
        row["published_at"],
    )


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def _query(name: str) -> LiteralString:
    return queries.load("provenance")[name]
