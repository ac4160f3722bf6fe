"""What people say of passages is kept, and nobody speaks of what they may not see."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from rag_assets.errors import UnknownDocumentError
from rag_assets.model import Corpus, bucket_of
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.flow import Chain

ROOF = b"# The roof\n\nThe roof is made of slate.\n"
SALARIES = b"# Salaries\n\nNobody earns much.\n"


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus) -> Chain:
    """One document for all, and one for finance alone."""
    chain = Chain(database, corpus, source=InMemorySource({"roof.md": ROOF, "pay.md": SALARIES}))
    assert bucket_of("pay.md", 4) != bucket_of("roof.md", 4)
    chain.run()
    chain.with_settings(acl=("finance",)).run([bucket_of("pay.md", 4)])
    chain.publish()
    return chain


def give(chain: Chain, *passage: str | int, who: str = "everyone", helpful: bool = True) -> None:
    place = (str(passage[0]), int(passage[1])) if passage else None
    chain.stores.feedback.give(
        chain.newest, "What is it?", helpful=helpful, passage=place, principals=(who,)
    )


def test_feedback_on_a_passage_keeps_its_characters_and_its_words(chain: Chain) -> None:
    give(chain, "roof.md", 0)
    [given] = chain.stores.feedback.given("notes")
    assert (given.question, given.helpful, given.generation) == ("What is it?", True, 1)
    assert (given.doc_id, given.quote) == ("roof.md", ROOF.decode().strip())
    assert ROOF.decode()[given.start : given.end] == given.quote


def test_feedback_on_an_answer_as_a_whole_has_no_passage(chain: Chain) -> None:
    give(chain, helpful=False)
    [given] = chain.stores.feedback.given("notes")
    assert (given.helpful, given.doc_id, given.quote) == (False, None, None)


@pytest.mark.parametrize(
    ("passage", "who"),
    [(("pay.md", 0), "everyone"), (("roof.md", 0), "finance"), (("roof.md", 7), "everyone")],
)
def test_what_may_not_be_seen_and_what_is_not_there_are_the_same(
    chain: Chain, passage: tuple[str, int], who: str
) -> None:
    with pytest.raises(UnknownDocumentError, match=r"no passage .*#\d that you may see"):
        give(chain, *passage, who=who)
    assert chain.stores.feedback.given("notes") == []
    give(chain, "pay.md", 0, who="finance")


def test_feedback_is_listed_from_a_time_on_and_per_corpus(chain: Chain) -> None:
    give(chain)
    give(chain, "roof.md", 0)
    first, second = chain.stores.feedback.given("notes")
    assert chain.stores.feedback.given("notes", since=second.given_at) == [second]
    assert chain.stores.feedback.given("notes", since=datetime.now(UTC) + timedelta(1)) == []
    assert chain.stores.feedback.given("other") == []
    assert first.given_at < second.given_at


def test_feedback_outlives_the_generation_it_was_given_on(chain: Chain) -> None:
    give(chain, "roof.md", 0)
    later = replace(chain).with_settings(chunking=replace(chain.corpus.chunking, max_chars=500))
    later.run()
    later.publish()
    assert len(chain.stores.feedback.given("notes")) == 1
