"""The page of the lineage: complete, alone, and never a place where a description can run."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

from rag_assets.lineage.drawing import anchor
from rag_assets.lineage.graph import (
    AssetNode,
    AutomationNode,
    Buckets,
    Changes,
    CheckNode,
    ColumnNode,
    CorpusLineage,
    Freshness,
    GenerationNode,
    Health,
    Ledger,
    Lineage,
    RunNode,
)
from rag_assets.lineage.markup import VOID
from rag_assets.lineage.page import page

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
EVIL = "</p><script>alert('here')</script><img src=x onerror=alert(1)>\" onload=\"alert(2)"


def asset(name: str, *upstream: str, word: str = "", **changes: object) -> AssetNode:
    node = AssetNode(
        name=name,
        description=f"What {name} is. {word}\n\nIt has `code` in it.",
        kinds=("postgres", word),
        owners=(word,),
        code_version=f"cutter@3 {word}",
        table=f"rag_assets.{name}",
        code=f"rag_assets/assets/{name}.py:7",
        upstream=upstream,
        columns=(ColumnNode("doc_id", "text", f"Which one {word}", (("first", "name"),)),),
        checks=(
            CheckNode("whole", "Is it?", blocking=True, nightly=False, health=Health.GOOD, at=NOW),
            CheckNode("later", f"Is it {word}?", blocking=False, nightly=True),
        ),
        freshness=Freshness(Health.GOOD, f"fresh; every 48 h at least {word}"),
        buckets=Buckets({"00": "materialized", "01": "materialized"}),
        runs=(
            RunNode(
                "0123456789",
                NOW - timedelta(hours=1),
                f"by hand {word}",
                2,
                did={"added": 3},
                figures={"tokens": f"1,234 {word}"},
                diff=(Changes("added", 3, f"a.md, b.md {word}", generation=4),),
            ),
        ),
        rows=1234,
    )
    return replace(node, **changes)  # type: ignore[arg-type]  # mypy cannot know which fields


def lineage(*assets: AssetNode, word: str = "", ledger: bool = True) -> Lineage:
    generation = GenerationNode(
        number=4,
        state="published",
        fingerprint="abc",
        parser=f"auto@2 {word}",
        chunker="markdown@1",
        embedder="wordllama",
        documents=3,
        chunks=9,
        created_at=NOW,
        published_at=NOW,
        scores={"mrr@10": 0.875},
    )
    corpus = CorpusLineage(
        name="notes",
        description=f"Notes of the house {word}",
        owners=(f"team:house {word}",),
        source=f"/srv/notes{word}",
        source_kind="folder",
        assets=assets,
        automation=(AutomationNode("sensor", "notes_source", "every 5 s", True, f"Looks {word}"),),
        ledger=Ledger(3, 1, 0, 4, (generation,)) if ledger else None,
    )
    return Lineage(NOW, "1.2.3", (corpus,), notes=(f"Something to know {word}",))


class Seen(HTMLParser):
    """What a browser would find: elements, attributes, text, and whether all are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, attribute: str) -> list[str]:
        return [value for name, value in self.attributes if name == attribute]


def test_everything_that_is_known_of_an_asset_stands_on_the_page() -> None:
    seen = Seen(page(lineage(asset("first"), asset("second", "first"))))

    for words in (
        "What second is.",
        "cutter@3",
        "rag_assets.second",
        "rag_assets/assets/second.py:7",
        "1,234",
        "doc_id",
        "Which one",
        "first.name",
        "whole",
        "nightly",
        "passed",
        "not run yet",
        "fresh; every 48 h at least",
        "2 materialized",
        "2026-03-01 11:00 UTC",
        "01234567",
        "added 3",
        "a.md, b.md",
        "generation 4",
        "0.875",
        "notes_source",
        "team:house",
        "/srv/notes",
        "Something to know",
        "made 2026-03-01 12:00 UTC by rag_assets 1.2.3",
    ):
        assert words in seen.text, words


def test_whatever_is_written_anywhere_is_text_and_never_markup() -> None:
    plain, hostile = (
        Seen(
            page(lineage(asset("first", word=word), asset("second", "first", word=word), word=word))
        )
        for word in ("harmless", EVIL)
    )

    assert hostile.tags == plain.tags
    assert "script" not in hostile.tags
    assert [name for name, _ in hostile.attributes] == [name for name, _ in plain.attributes]
    assert hostile.text.count("<script>alert('here')</script>") > 20


def test_the_page_asks_for_nothing_from_anywhere() -> None:
    text = page(lineage(asset("first"), asset("second", "first")))
    seen = Seen(text)

    assert "default-src 'none'" in " ".join(seen.values("content"))
    assert not {"script", "img", "link", "iframe", "object"} & set(seen.tags)
    assert not re.search(r"url\((?!#)|@import|https?:", text)
    assert all(link.startswith("#") for link in seen.values("href"))
    assert not seen.values("src")


def test_every_link_leads_to_a_part_of_the_page() -> None:
    seen = Seen(page(lineage(asset("first"), asset("second", "first"), asset("third", "first"))))

    ids = seen.values("id")
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in seen.values("href")} <= set(ids)
    assert anchor("notes", "third") in ids


def test_without_runs_and_without_the_database_the_page_says_so() -> None:
    never = asset("first", runs=(), rows=None, buckets=Buckets({"00": "missing"}))

    seen = Seen(page(lineage(never, ledger=False)))

    assert "Never materialized." in seen.text
    assert "1 missing" in seen.text
    assert "Generations" not in seen.text


def test_an_asset_stands_as_its_worst_part_does() -> None:
    good = asset("first")
    failed = CheckNode("whole", "", blocking=False, nightly=False, health=Health.FAILED)

    assert good.health is Health.GOOD
    assert replace(good, checks=(*good.checks, failed)).health is Health.FAILED
    assert replace(good, buckets=Buckets({"00": "failed"})).health is Health.FAILED
    assert replace(good, buckets=Buckets({"00": "missing"})).health is Health.WARNING
    assert replace(good, freshness=Freshness(Health.FAILED, "overdue")).health is Health.FAILED
    assert replace(good, runs=()).health is Health.UNKNOWN
    by_other_code = replace(good.runs[0], code_version="cutter@2")
    assert replace(good, runs=(by_other_code,)).health is Health.WARNING
