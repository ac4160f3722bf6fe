"""What an index promises, tried on whole corpora: what each change costs, and what it leaves."""

import gzip
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from rag_assets.indexing.chunking import MarkdownChunker
from rag_assets.indexing.parsing import DocumentParser
from rag_assets.model import Corpus
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.flow import Chain, CountingEmbedder
from rag_assets_tests.integration.site_history import Commit, Site, history

NewDatabase = Callable[[], DatabaseUrls]

TWENTY = [
    f"Paragraph {number} tells of the {word} and of what became of it, in a few plain words that"
    f" nobody else uses for the {word} number {number}."
    for number, word in enumerate(
        [
            "anchor",
            "basin",
            "candle",
            "dock",
            "ember",
            "ferry",
            "gravel",
            "harbour",
            "island",
            "jetty",
            "kettle",
            "lantern",
            "mast",
            "north",
            "orchard",
            "pier",
            "quarry",
            "rope",
            "sail",
            "tide",
        ]
    )
]


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource()


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus, source: InMemorySource) -> Chain:
    return Chain(database, corpus, source=source)


def page(paragraphs: Iterable[str]) -> bytes:
    sections = (f"## Part {n}\n\n{text}" for n, text in enumerate(paragraphs))
    return "\n\n".join(["# Twenty", *sections]).encode()


@pytest.fixture
def twenty(chain: Chain, source: InMemorySource) -> Chain:
    """A page of twenty paragraphs, each a chunk of its own, and two pages beside it; published."""
    source.contents |= {
        "twenty.md": page(TWENTY),
        "roof.md": b"# The roof\n\nThe roof is covered with slate.\n",
        "well.md": b"# The well\n\nThe well is eleven fathoms deep.\n",
    }
    chunking = replace(chain.corpus.chunking, max_chars=200, min_chars=50)
    chain = chain.with_settings(chunking=chunking)
    chain.run()
    chain.publish()
    chain.embedder.paid.clear()
    return chain


def fresh(chain: Chain, urls: DatabaseUrls, source: InMemorySource) -> Chain:
    """The same source, built from nothing in a database of its own."""
    built = replace(chain, urls=urls, source=source, embedder=CountingEmbedder())
    built.run()
    return built


# --- what a change costs -----------------------------------------------------------------------


def test_one_paragraph_edited_of_twenty_embeds_one_text(
    twenty: Chain, source: InMemorySource
) -> None:
    source.contents["twenty.md"] = page([*TWENTY[:7], "It was rewritten.", *TWENTY[8:]])
    twenty.run()
    assert len(twenty.embedder.paid) == 1
    assert "rewritten" in twenty.embedder.paid[0]


def test_a_rename_embeds_no_text(twenty: Chain, source: InMemorySource) -> None:
    source.contents["guide/20.md"] = source.contents.pop("twenty.md")
    outcome = twenty.run()
    assert (twenty.embedder.paid, outcome.done("added"), outcome.done("removed")) == ([], 1, 1)
    assert {hit.doc_id for hit in twenty.find("kettle").hits} >= {"guide/20.md"}


def test_a_duplicate_embeds_no_text(twenty: Chain, source: InMemorySource) -> None:
    source.contents["copy.md"] = source.contents["twenty.md"]
    outcome = twenty.run()
    assert (twenty.embedder.paid, outcome.done("added")) == ([], 1)


def test_a_source_that_swaps_two_names_embeds_no_text(
    twenty: Chain, source: InMemorySource
) -> None:
    there = source.contents
    there["roof.md"], there["well.md"] = there["well.md"], there["roof.md"]
    twenty.run()
    assert twenty.embedder.paid == []
    assert {hit.doc_id for hit in twenty.find("slate").hits if hit.lexical} == {"well.md"}


# --- the history of a site ---------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_a_site_replayed_commit_by_commit_equals_a_fresh_build_and_paid_each_text_once(
    chain: Chain, source: InMemorySource, new_database: NewDatabase
) -> None:
    did: dict[str, int] = {}
    texts: set[str] = set()
    commits = list(history(seed=20))
    for commit in commits:
        for kind, number in commit.did.items():
            did[kind] = did.get(kind, 0) + number
        texts |= embedded_texts(chain.corpus, commit.site)
        source.contents = commit.site
        chain.run()
    assert did == {"add": 200, "edit": 400, "rename": 230, "delete": 18}
    assert max(commit.did.get("rename", 0) for commit in commits) >= 160
    assert chain.holds() == fresh(chain, new_database(), source).holds()
    assert sorted(chain.embedder.paid) == sorted(texts)


def embedded_texts(corpus: Corpus, site: Site) -> set[str]:
    """What a build of this site alone would have to embed."""
    parser, chunker = DocumentParser(corpus.parser), MarkdownChunker(corpus.chunking)
    return {
        chunk.embedded_text
        for doc_id, content in site.items()
        for chunk in chunker.split(parser.parse(content, doc_id=doc_id))
    }


@pytest.mark.data
@pytest.mark.timeout(600)
def test_half_a_year_of_a_real_site_in_random_commits_equals_a_fresh_build(
    chain: Chain, source: InMemorySource, new_database: NewDatabase
) -> None:
    texts: set[str] = set()
    for commit in real_history(documents=100, commits=15):
        texts |= embedded_texts(chain.corpus, commit.site)
        source.contents = commit.site
        chain.run()
    assert chain.holds() == fresh(chain, new_database(), source).holds()
    assert sorted(chain.embedder.paid) == sorted(texts)


def real_history(*, documents: int, commits: int) -> Iterator[Commit]:
    """All that lies between the two dates on the shortest pages, a few changes at a time."""
    named = os.environ.get("RAG_ASSETS_DATA")
    if not named:
        pytest.skip("RAG_ASSETS_DATA names no folder")
    docs = Path(named) / "docs"
    old, new = (read_site(docs / f"powershell-docs.{when}.jsonl.gz") for when in ("old", "new"))
    with (docs / "powershell-docs.changes.jsonl").open(encoding="utf-8") as lines:
        found = sorted(map(json.loads, lines), key=lambda change: len(new[change["path"]]))
    unusual = [change for change in found if change["op"] != "modify"]
    usual = [change for change in found if change["op"] == "modify"][:documents]
    changes = [*unusual, *usual]
    Random(7).shuffle(changes)
    untouched = new.keys() - {change["path"] for change in found}
    site = {path: old[path] for path in sorted(untouched, key=lambda path: len(new[path]))}
    site = dict(islice(site.items(), documents))
    site |= {before: old[before] for before in map(before_it, changes) if before in old}
    yield Commit(dict(site), {})
    for number in range(commits):
        for change in changes[number::commits]:
            site.pop(before_it(change), None)
            site[change["path"]] = new[change["path"]]
        yield Commit(dict(site), {})
    assert len(changes) > documents
    assert all(new[path] == text for path, text in site.items())


def before_it(change: dict[str, str]) -> str:
    """What a page was called until then."""
    return change.get("old_path") or change["path"]


def read_site(file: Path) -> dict[str, bytes]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return {page["path"]: page["text"].encode() for page in map(json.loads, lines)}
