"""What must be true of the generations of a corpus at any moment, read from the tables alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rag_assets_tests.fault.oracle import Broken
from rag_assets_tests.integration.flow import rows

LIVING = ("building", "candidate", "published", "retired")
_SEARCHABLE = LIVING[1:]
_KINDS = ("index", "postings", "served")


@dataclass(frozen=True, slots=True)
class Laws:
    """One corpus in its database."""

    url: str
    corpus: str

    def broken(self) -> Iterator[Broken]:
        """I14."""
        for what in (*self._published(), *self._relations(), *self._manifests(), *self._ends()):
            yield Broken("I14", what)

    def generations(self) -> list[dict[str, Any]]:
        query = (
            "SELECT generation, state, chunker, embedder, ended_at, ended_reason, index_kind,"
            " rolled_back FROM generations WHERE corpus = %(corpus)s ORDER BY generation"
        )
        return self._rows(query)

    def living(self) -> list[int]:
        return [each["generation"] for each in self.generations() if each["state"] in LIVING]

    def published(self) -> int | None:
        found = self._rows("SELECT generation FROM published_index WHERE corpus = %(corpus)s")
        return found[0]["generation"] if found else None

    def behind(self, generation: int) -> list[str]:
        """Documents that it does not serve as they are recorded; of documents without poison."""
        query = (
            "SELECT coalesce(d.doc_id, s.doc_id) AS doc_id FROM"
            " (SELECT * FROM documents WHERE corpus = %(corpus)s AND state = 'live') d FULL JOIN"
            " (SELECT * FROM indexed_documents WHERE generation = %(generation)s) s"
            " USING (doc_id) WHERE (d.content_hash, d.uri, d.title, d.acl)"
            " IS DISTINCT FROM (s.content_hash, s.uri, s.title, s.acl) ORDER BY 1"
        )
        return [each["doc_id"] for each in self._rows(query, generation=generation)]

    def served(self, generation: int) -> dict[str, Any]:
        """Every row that readers of a generation may meet, and which transaction wrote it."""
        tables = {
            f"index_{generation}": "true",
            f"postings_{generation}": "true",
            "indexed_documents": f"generation = {generation}",
            "index_buckets": f"generation = {generation}",
        }
        return {
            table: rows(
                self.url,
                "SELECT count(*) AS rows, md5(string_agg(concat(t::text, t.xmin), '|'"
                f" ORDER BY t::text)) AS hash FROM {table} t WHERE {which}",
            )
            for table, which in tables.items()
        }

    # --- the laws --------------------------------------------------------------------------------

    def _published(self) -> Iterator[str]:
        states = {each["generation"]: each["state"] for each in self.generations()}
        marked = [number for number, state in states.items() if state == "published"]
        if (row := self.published()) is not None and [row] != marked:
            yield f"readers are sent to {row}, and published is {marked}"
        if row is None and marked:
            yield f"{marked} is published, and no reader is sent there"
        if (builds := list(states.values()).count("building")) > 1:
            yield f"{builds} generations are being built"
        noted = self._rows(
            "SELECT generation, replaced FROM publications WHERE corpus = %(corpus)s"
            " ORDER BY published_at"
        )
        newest = noted[-1]["generation"] if noted else None
        if newest != row:
            yield f"the newest publication is of {newest}, readers are sent to {row}"
        for before, after in zip(
            [None, *(each["generation"] for each in noted)], noted, strict=False
        ):
            if after["replaced"] != before:
                yield f"{after['generation']} replaced {before}, noted is {after['replaced']}"

    def _relations(self) -> Iterator[str]:
        """Those that live have their tables, those that have ended have none, nor has nobody."""
        there: dict[int, set[str]] = {}
        for each in self._rows(
            "SELECT split_part(relname, '_', 1) AS kind, split_part(relname, '_', 2)::integer AS"
            " generation FROM pg_class WHERE relnamespace = 'rag_assets'::regnamespace"
            " AND relkind IN ('r', 'v') AND relname ~ '^(index|postings|served)_[0-9]+$'"
        ):
            there.setdefault(each["generation"], set()).add(each["kind"])
        known = {each["generation"] for each in self._rows("SELECT generation FROM generations")}
        if orphans := there.keys() - known:
            yield f"tables of no generation: {sorted(orphans)}"
        for each in self.generations():
            number, lives = each["generation"], each["state"] in LIVING
            if there.get(number, set()) != (set(_KINDS) if lives else set()):
                yield f"generation {number} is {each['state']} and has {there.get(number)}"
            if lives and each["state"] in _SEARCHABLE and number in there:
                yield from self._indexes(number, each["index_kind"])

    def _indexes(self, number: int, kind: str) -> Iterator[str]:
        found = self._rows(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE i.indisvalid AND i.indrelid IN (%(index)s::regclass, %(postings)s::regclass)",
            index=f"index_{number}",
            postings=f"postings_{number}",
        )
        names = {each["relname"] for each in found}
        wanted = {f"postings_{number}_pkey"} | (
            set() if kind == "exact" else {f"index_{number}_by_vector"}
        )
        if lacking := wanted - names:
            yield f"generation {number} can be searched, without {sorted(lacking)}"

    def _manifests(self) -> Iterator[str]:
        for number in self.living():
            query = (
                "SELECT b.bucket FROM index_buckets b CROSS JOIN LATERAL ("
                " SELECT count(*) AS documents, coalesce(sum(chunks), 0) AS chunks,"
                " coalesce(sum(words), 0) AS words, coalesce(bit_xor(checksum), 0) AS checksum"
                " FROM indexed_documents s WHERE s.generation = b.generation"
                f" AND s.bucket = b.bucket) s CROSS JOIN LATERAL (SELECT count(*) AS chunks FROM"
                f" index_{number} i WHERE i.bucket = b.bucket) i WHERE b.generation = %(generation)s"
                " AND (b.documents, b.chunks, b.chunks, b.words, b.checksum)"
                " IS DISTINCT FROM (s.documents, s.chunks, i.chunks, s.words, s.checksum)"
            )
            for each in self._rows(query, generation=number) if self._has_tables(number) else ():
                yield f"bucket {each['bucket']} of generation {number} is not as its manifest says"

    def _ends(self) -> Iterator[str]:
        for each in self.generations():
            ended = each["state"] not in LIVING
            if ended != (each["ended_at"] is not None and each["ended_reason"] is not None):
                yield f"of the end of {each['generation']} ({each['state']}) not all is known"
        left = self._rows(
            "SELECT DISTINCT generation FROM (SELECT generation FROM indexed_documents UNION ALL"
            " SELECT generation FROM index_buckets) t JOIN generations g USING (generation)"
            " WHERE g.state IN ('cancelled', 'dropped', 'failed') AND g.corpus = %(corpus)s"
        )
        if left:
            yield f"rows are left of what has ended: {[each['generation'] for each in left]}"

    def _has_tables(self, number: int) -> bool:
        found = self._rows("SELECT to_regclass(%(name)s) AS name", name=f"index_{number}")
        return found[0]["name"] is not None

    def _rows(self, query: str, **more: object) -> list[dict[str, Any]]:
        which = {"corpus": self.corpus, **more}
        named = {name: value for name, value in which.items() if f"%({name})s" in query}
        return rows(self.url, query, **named)


def untouched(before: Mapping[str, Any], after: Mapping[str, Any], number: int) -> Iterator[Broken]:
    """I15: to the last byte, and not so much as written again."""
    for table in before:
        if before[table] != after[table]:
            yield Broken("I15", f"{table} of generation {number} was written while it was read")
