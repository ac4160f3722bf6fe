"""A table of embeddings that another tool has made is taken over, and nothing is paid again."""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import yaml
from click.testing import CliRunner, Result
from psycopg.types.json import Jsonb

from rag_assets import wiring
from rag_assets.adopting import Adopter, column_of
from rag_assets.cli import main
from rag_assets.corpus_file import read_corpus
from rag_assets.errors import AdoptionError, ConfigurationError, DatabaseError
from rag_assets.indexing.embedding import Embedded, embed
from rag_assets.model import (
    Adopted,
    AdoptionWish,
    ChunkingSettings,
    Corpus,
    EmbeddingSettings,
    ForeignTable,
    Generation,
    LocalFilesSettings,
    RunIdentity,
)
from rag_assets.printing import adoption
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.integration.flow import RUN, Chain, rows, value
from rag_assets_tests.services.embedding_service import KEY, EmbeddingService
from rag_assets_tests.services.vectors import vector_of

DOCS = Path(__file__).parents[2] / "docs"
SOME_DOCS = ("how-to/roll-back.md", "how-to/erase-a-document.md", "concepts/generations.md")
WIDTH = 64

LANGCHAIN = """
CREATE TABLE langchain_pg_collection (
    uuid uuid PRIMARY KEY, name varchar NOT NULL UNIQUE, cmetadata json
);
CREATE TABLE langchain_pg_embedding (
    id varchar PRIMARY KEY,
    collection_id uuid REFERENCES langchain_pg_collection ON DELETE CASCADE,
    embedding vector,
    document varchar,
    cmetadata jsonb
);
CREATE INDEX ix_cmetadata_gin ON langchain_pg_embedding USING gin (cmetadata jsonb_path_ops);
"""
LLAMAINDEX = """
CREATE TABLE data_notes (
    id bigserial PRIMARY KEY,
    text varchar NOT NULL,
    metadata_ json,
    node_id varchar,
    embedding vector(64)
);
"""


def split(text: str, *, size: int = 600, overlap: int = 120) -> list[str]:
    """Overlapping pieces between white space, stripped, as a recursive splitter makes them."""
    pieces, start = [], 0
    while start < len(text):
        end = min(start + size, len(text))
        if end < len(text):
            end = max(
                text.rfind("\n", start, end), text.rfind(" ", start, end), start + overlap + 1
            )
        pieces.append(text[start:end].strip())
        start = end if end == len(text) else text.find(" ", end - overlap) + 1
    return [piece for piece in pieces if piece]


def theirs(text: str, *, length: float = 1.0) -> str:
    vector = vector_of(text, dimensions=WIDTH) * np.float32(length)
    return f"[{','.join(map(str, vector.tolist()))}]"


@dataclass(frozen=True, slots=True)
class Moving:
    """A corpus over real documents, whose owner has a table of another tool."""

    chain: Chain
    service: EmbeddingService
    folder: Path
    foreign_url: str

    def text(self, doc_id: str) -> str:
        return (self.folder / doc_id).read_text("utf-8")

    def fill(self, doc_ids: Sequence[str] = SOME_DOCS, *, length: float = 1.0) -> int:
        """As LangChain does: the path that was loaded is the source."""
        with psycopg.connect(self.foreign_url, autocommit=True) as connection:
            connection.execute(LANGCHAIN.encode())
            added = [
                (f"{doc_id}/{number}", theirs(piece, length=length), piece, doc_id)
                for doc_id in doc_ids
                for number, piece in enumerate(split(self.text(doc_id)))
            ]
            connection.cursor().executemany(
                "INSERT INTO langchain_pg_embedding VALUES (%s, NULL, %s::vector, %s, %s)",
                [
                    (row_id, vector, piece, Jsonb({"source": f"/home/ann/docs/{doc_id}"}))
                    for row_id, vector, piece, doc_id in added
                ],
            )
        return len(added)

    def add(self, row_id: str, text: str | None, vector: str | None, doc_id: str) -> None:
        with psycopg.connect(self.foreign_url, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO langchain_pg_embedding VALUES (%s, NULL, %s::vector, %s, %s)",
                (row_id, vector, text, Jsonb({"source": doc_id})),
            )

    def adopt(self, run_id: str = "adopt-1", **changes: object) -> Adopted:
        wish = replace(WISH, **changes)  # type: ignore[arg-type]  # its own fields
        return Adopter(
            self.chain.corpus,
            self.chain.urls,
            self.foreign_url,
            RunIdentity(run_id, "code-1"),
            source=lambda: wiring.source_of(self.chain.corpus),
        ).adopt(wish)

    @property
    def adopted(self) -> "Moving":
        """With the settings that use what was adopted."""
        chunking = ChunkingSettings(adopted="langchain")
        return replace(self, chain=self.chain.with_settings(chunking=chunking))

    def build(self) -> tuple[Generation, Embedded]:
        """As a run does it, with the real client of the model."""
        chain = self.chain
        chain.observe()
        corpus, stores = chain.corpus, chain.stores
        generation = stores.generations.open(corpus.name, wiring.recipe_of(corpus))
        chain.cut()
        with wiring.document_embedder(generation, corpus, chain.urls) as embedder:
            made = embed(
                generation,
                range(corpus.buckets),
                embedder=embedder,
                store=stores.embeddings,
                letters=stores.documents,
                run=RUN,
            )
        chain.merge()
        return stores.generations.numbered(corpus.name, generation.number), made

    def found(self, question: str) -> list[str]:
        index = wiring.search_index(self.chain.urls)
        found = index.find(
            index.published(self.chain.corpus.name),
            question=question,
            vector=vector_of(question, dimensions=WIDTH),
            principals=["everyone"],
        )
        return [hit.doc_id for hit in found.hits]

    def number(self, query: str) -> int:
        return int(value(self.chain.urls.writer, query))

    def state(self) -> list[object]:
        """All that adopting writes, but for when and by whom."""
        return [
            rows(self.chain.urls.writer, query)
            for query in (
                "SELECT content_hash, chunker, chunks FROM chunk_sets ORDER BY 1, 2",
                "SELECT content_hash, chunker, ord, start_char, text_hash FROM chunks ORDER BY 1, 2, 3",
                "SELECT model, text_hash, embedding::text FROM embeddings ORDER BY 1, 2",
            )
        ]


WISH = AdoptionWish(
    ForeignTable(
        "public",
        "langchain_pg_embedding",
        text="document",
        vector="embedding",
        document=column_of("cmetadata.source"),
    ),
    model="openai:words-64",
    name="langchain",
    sample=5,
)


TRUSTED: dict[str, Any] = {"model": "openai:words-of-theirs", "verify": False}
"""A model of its provider's own server, which nobody asks."""


@pytest.fixture
def service() -> Iterator[EmbeddingService]:
    with EmbeddingService() as service:
        yield service


@pytest.fixture
def moving(
    database: DatabaseUrls,
    tmp_path: Path,
    service: EmbeddingService,
    monkeypatch: pytest.MonkeyPatch,
) -> Moving:
    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    folder = tmp_path / "docs"
    for doc_id in SOME_DOCS:
        (folder / doc_id).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DOCS / doc_id, folder / doc_id)
    corpus = Corpus(
        "notes",
        source=LocalFilesSettings(str(folder)),
        buckets=4,
        embedder="openai:words-64",
        embedding=EmbeddingSettings(service.openai_url, "LOOPBACK_KEY", dimensions=WIDTH),
    )
    return Moving(Chain(database, corpus), service, folder, database.owner)


def test_what_langchain_has_embedded_is_searched_without_embedding_it_again(
    moving: Moving,
) -> None:
    count = moving.fill()
    found = moving.adopt()
    assert (found.rows, found.passages, found.contents) == (count, count, len(SOME_DOCS))
    assert not found.left_out
    assert found.sampled == 5
    assert found.worst_cosine == pytest.approx(1)
    generation, made = moving.adopted.build()
    assert made.texts == found.own_passages == 0
    assert moving.number(f"SELECT count(*) FROM index_{generation.number}") == count
    moving.chain.publish(generation)
    assert moving.found("How do I roll back to the earlier index?")[0] == "how-to/roll-back.md"
    assert not moving.adopted.chain.stores.quality.verdicts("notes", quarantined=True)
    assert not moving.chain.stores.chunks.misplaced(generation)
    assert not moving.chain.stores.verifying.verify("notes")


def test_a_changed_document_embeds_only_what_is_new_in_it(moving: Moving) -> None:
    moving.fill()
    changed = moving.folder / SOME_DOCS[0]
    changed.write_text(changed.read_text("utf-8") + "\n\nQuinces ripen late in this garden.\n")
    (moving.folder / "new.md").write_text("# New\n\nNobody has embedded this one.\n")
    found = moving.adopt()
    assert found.contents == len(SOME_DOCS)
    _, made = moving.adopted.build()
    assert made.texts == found.own_passages + 1 == 2
    texts = [text for each in list(moving.service.served)[1:] for text in each.texts]
    assert len(texts) == 2
    assert any("Quinces ripen late" in text for text in texts)


def test_rows_of_earlier_words_are_left_out_and_their_document_is_cut_anew(
    moving: Moving,
) -> None:
    moving.fill()
    (moving.folder / SOME_DOCS[0]).write_text("# Roll back\n\nAll of this has been written anew.\n")
    found = moving.adopt()
    assert found.contents == len(SOME_DOCS) - 1
    assert list(found.left_out) == ["its text stands in no document as it is now"]
    assert found.examples[0][0].startswith("how-to/roll-back.md/")
    _, made = moving.adopted.build()
    assert made.texts == 1


def test_rows_without_a_usable_text_or_vector_are_left_out_and_counted(moving: Moving) -> None:
    count = moving.fill()
    text = split(moving.text(SOME_DOCS[0]))[0]
    moving.add("empty", "  ", theirs(text), SOME_DOCS[0])
    moving.add("no vector", text, None, SOME_DOCS[0])
    moving.add("zero", text, f"[{','.join(['0'] * WIDTH)}]", SOME_DOCS[0])
    moving.add("narrow", text, "[1,2,3]", SOME_DOCS[0])
    moving.add("elsewhere", text, theirs(text), "elsewhere.md")
    found = moving.adopt()
    assert found.rows == count + 5
    assert found.passages == count
    assert dict(found.examples) == {
        "empty": "without text",
        "no vector": "without a vector",
        "zero": "a vector without direction",
        "narrow": "a vector of another width",
        "elsewhere": "of a document that the corpus does not have",
    }


def test_documents_are_found_by_the_words_of_their_passages(moving: Moving) -> None:
    count = moving.fill()
    found = moving.adopt(table=replace(WISH.table, document=None))
    assert found.passages + sum(found.left_out.values()) >= count
    assert found.contents == len(SOME_DOCS)
    assert set(found.left_out) <= {"too short to be looked up without --document"}


def test_the_same_table_is_adopted_once_and_later_only_what_is_new(moving: Moving) -> None:
    count = moving.fill()
    first = moving.adopt()
    before = moving.state()
    again = moving.adopt("adopt-2")
    assert (again.known, again.passages, again.vectors) == (count, 0, 0)
    assert moving.state() == before
    (moving.folder / "more.md").write_text("# More\n\nAnother page about quinces, and about pears.")
    moving.chain.observe()
    moving.add(
        "more",
        "Another page about quinces, and about pears.",
        theirs("Another page about quinces, and about pears."),
        "more.md",
    )
    assert moving.adopt("adopt-3").passages == 1
    told = rows(moving.chain.urls.writer, "SELECT * FROM adoptions ORDER BY run_id")
    assert [each["passages"] for each in told] == [first.passages, 1]
    assert all(each["finished_at"] for each in told)


def test_under_the_same_name_a_second_model_gets_its_vectors_of_the_same_passages(
    moving: Moving,
) -> None:
    count = moving.fill()
    with psycopg.connect(moving.foreign_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE langchain_pg_embedding ADD wider vector(256)")
        for row_id, text in connection.execute("SELECT id, document FROM langchain_pg_embedding"):
            wider = str(vector_of(text, dimensions=256).tolist())
            connection.execute(
                "UPDATE langchain_pg_embedding SET wider = %s::vector WHERE id = %s",
                (wider, row_id),
            )
    wrong = moving.adopt(table=replace(WISH.table, vector="wider"), **TRUSTED)
    right = moving.adopt("adopt-2")
    assert (wrong.vectors, right.vectors) == (count, count)
    assert (right.passages, right.contents, right.known) == (count, len(SOME_DOCS), 0)
    assert moving.number("SELECT count(*) FROM chunk_sets") == len(SOME_DOCS)
    assert moving.adopt("adopt-3").known == count
    _, made = moving.adopted.build()
    assert made.texts == 0


def test_a_table_that_is_cut_otherwise_needs_another_name(moving: Moving) -> None:
    moving.fill()
    moving.adopt()
    with psycopg.connect(moving.foreign_url, autocommit=True) as connection:
        connection.execute("TRUNCATE langchain_pg_embedding")
    for number, piece in enumerate(split(moving.text(SOME_DOCS[0]), size=400)):
        moving.add(f"other/{number}", piece, theirs(piece), SOME_DOCS[0])
    before = moving.state()
    with pytest.raises(AdoptionError, match="choose another --name"):
        moving.adopt("adopt-2")
    assert moving.state() == before
    assert moving.adopt("adopt-3", name="other").contents == 1


def test_where_too_little_of_each_document_is_there_nothing_is_adopted(moving: Moving) -> None:
    moving.fill()
    with psycopg.connect(moving.foreign_url, autocommit=True) as connection:
        connection.execute("DELETE FROM langchain_pg_embedding WHERE id NOT LIKE '%/1'")
        connection.execute(
            "INSERT INTO langchain_pg_embedding SELECT id || 'again', NULL, embedding, document,"
            " cmetadata FROM langchain_pg_embedding"
        )
    rows_of_them = 2 * len(SOME_DOCS)
    told = rf"It has {rows_of_them} rows: {rows_of_them} of a document of which too little"
    for rehearsal in (True, False):
        moving.chain.observe()
        with pytest.raises(AdoptionError, match=told):
            moving.adopt(rehearsal=rehearsal)
    assert moving.number("SELECT count(*) FROM adoptions") == 0


def test_a_short_row_is_adopted_only_where_it_stands_alone(moving: Moving) -> None:
    count = moving.fill()
    moving.add("often", "the", theirs("the"), SOME_DOCS[0])
    moving.add("never", "he", theirs("he"), SOME_DOCS[0])
    found = moving.adopt()
    assert found.passages == count
    assert dict(found.examples) == {
        "often": "too short, or too often in its document, to be one passage of it",
        "never": "its text stands in no document as it is now",
    }


def test_vectors_of_another_model_are_refused_before_anything_is_written(moving: Moving) -> None:
    moving.fill()
    with psycopg.connect(moving.foreign_url, autocommit=True) as connection:
        turned = f"[{','.join(['1'] * WIDTH)}]"
        connection.execute("UPDATE langchain_pg_embedding SET embedding = %s::vector", (turned,))
    before = moving.state()
    with pytest.raises(AdoptionError, match=r"not made by openai:words-64.*cosine") as refusal:
        moving.adopt()
    assert "Roll back" not in str(refusal.value)
    assert moving.state() == before
    assert moving.number("SELECT count(*) FROM adoptions") == 0
    [cost] = rows(moving.chain.urls.writer, "SELECT stage, texts, tokens FROM costs")
    assert (cost["stage"], cost["texts"]) == ("adopt", 5)
    assert cost["tokens"] > 0


def test_without_a_key_it_is_refused_unless_it_is_taken_on_trust(
    moving: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving.fill()
    monkeypatch.delenv("LOOPBACK_KEY")
    with pytest.raises(AdoptionError, match="--unverified"):
        moving.adopt()
    assert moving.number("SELECT count(*) FROM chunk_sets") == 0
    assert moving.adopt(verify=False).contents == len(SOME_DOCS)
    [told] = rows(moving.chain.urls.writer, "SELECT sampled, worst_cosine FROM adoptions")
    assert (told["sampled"], told["worst_cosine"]) == (0, None)


def test_vectors_of_another_length_are_brought_to_that_of_the_model(moving: Moving) -> None:
    moving.fill(length=3.5)
    assert moving.adopt().worst_cosine == pytest.approx(1)
    lengths = rows(moving.chain.urls.writer, "SELECT vector_norm(embedding) AS n FROM embeddings")
    assert [each["n"] for each in lengths] == pytest.approx([1.0] * len(lengths), abs=1e-5)
    _, made = moving.adopted.build()
    assert made.texts == 0


def test_a_dry_run_writes_nothing_and_asks_no_model(moving: Moving) -> None:
    count = moving.fill()
    moving.chain.observe()
    before = moving.state()
    found = moving.adopt(rehearsal=True)
    assert (found.passages, found.contents) == (count, len(SOME_DOCS))
    assert moving.state() == before
    assert moving.number("SELECT count(*) FROM adoptions") == 0
    assert not moving.service.served


KILLING = """
CREATE FUNCTION kill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(DISTINCT content_hash) FROM rag_assets.chunks) = 2 THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER kill AFTER INSERT ON rag_assets.chunks EXECUTE FUNCTION kill();
"""


def test_an_adoption_that_is_killed_leaves_whole_documents_and_goes_on(moving: Moving) -> None:
    moving.fill()
    with psycopg.connect(moving.chain.urls.owner, autocommit=True) as connection:
        connection.execute(KILLING.encode())
        with pytest.raises(DatabaseError):
            moving.adopt()
        connection.execute("DROP TRIGGER kill ON rag_assets.chunks")
    assert moving.number("SELECT count(*) FROM chunk_sets") == 1
    assert (
        moving.number(
            "SELECT count(*) FROM chunks c LEFT JOIN embeddings e USING (text_hash)"
            " WHERE e.text_hash IS NULL"
        )
        == 0
    )
    [told] = rows(moving.chain.urls.writer, "SELECT contents, finished_at FROM adoptions")
    assert (told["contents"], told["finished_at"]) == (1, None)
    assert moving.adopt("adopt-2").contents == len(SOME_DOCS) - 1
    _, made = moving.adopted.build()
    assert made.texts == 0


def test_a_table_of_llamaindex_in_another_database_is_adopted(
    moving: Moving, new_database: Callable[[], DatabaseUrls]
) -> None:
    other = new_database()
    with psycopg.connect(other.owner, autocommit=True) as connection:
        connection.execute(LLAMAINDEX.encode())
        for doc_id in SOME_DOCS:
            for piece in split(moving.text(doc_id)):
                connection.execute(
                    "INSERT INTO data_notes (text, metadata_, embedding)"
                    " VALUES (%s, %s::json, %s::vector)",
                    (piece, json.dumps({"file_path": doc_id}), theirs(piece)),
                )
    table = ForeignTable(
        "public", "data_notes", "text", "embedding", column_of("metadata_.file_path")
    )
    found = replace(moving, foreign_url=other.owner).adopt(table=table)
    assert found.contents == len(SOME_DOCS)
    assert "@" not in found.source


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "nothing"}, "There is no table 'public.nothing'.*public.langchain_pg_embedding"),
        ({"name": 'x"; DROP TABLE rag_assets.chunks; --'}, "There is no table"),
        ({"text": "txt"}, "no column 'txt'. It has: id, collection_id, embedding"),
        ({"text": "document) FROM pg_shadow; --"}, "no column"),
        ({"vector": "document"}, "no column of vectors. Vectors are in: embedding"),
        ({"document": column_of("document.source")}, "is no JSON"),
    ],
)
def test_a_wrong_name_is_told_and_never_run(
    moving: Moving, changes: dict[str, str], says: str
) -> None:
    moving.fill()
    with pytest.raises(AdoptionError, match=says):
        moving.adopt(table=replace(WISH.table, **changes))  # type: ignore[arg-type]  # its own
    assert moving.number("SELECT count(*) FROM chunks") == 0


def test_values_of_a_condition_and_keys_of_json_are_no_part_of_the_query(moving: Moving) -> None:
    moving.fill()
    only = (column_of("cmetadata.source"), "' OR true; DROP TABLE langchain_pg_embedding; --")
    with pytest.raises(AdoptionError, match="no row with a vector"):
        moving.adopt(table=replace(WISH.table, only=only))
    odd = column_of("cmetadata.so'urce")
    with pytest.raises(AdoptionError, match="of a document that the corpus does not have"):
        moving.adopt(table=replace(WISH.table, document=odd))
    kept = (column_of("cmetadata.source"), f"/home/ann/docs/{SOME_DOCS[0]}")
    assert moving.adopt(table=replace(WISH.table, only=kept)).contents == 1


def test_a_model_of_another_width_is_refused(moving: Moving) -> None:
    moving.fill()
    wider = replace(moving.chain.corpus.embedding, dimensions=32)
    other = replace(moving, chain=moving.chain.with_settings(embedding=wider))
    with pytest.raises(AdoptionError, match=r"makes vectors of 32 dimensions.*have 64"):
        other.adopt()
    with pytest.raises(ConfigurationError, match="text-embedding-ada-002 has 1536 dimensions"):
        moving.adopt(model="openai:text-embedding-ada-002")


def test_an_adopted_chunk_that_is_not_word_for_word_its_characters_is_quarantined(
    moving: Moving,
) -> None:
    moving.fill()
    moving.adopt()
    with psycopg.connect(moving.chain.urls.owner, autocommit=True) as connection:
        connection.execute(
            "UPDATE rag_assets.chunks SET text = 'other words' WHERE ord = 0 AND content_hash ="
            " (SELECT content_hash FROM rag_assets.documents WHERE doc_id = %s)",
            (SOME_DOCS[0],),
        )
    moving.adopted.build()
    broken = moving.chain.stores.quality.verdicts("notes", quarantined=True)
    assert [(each.doc_id, each.rule) for each in broken] == [(SOME_DOCS[0], "broken_tiling")]


def test_the_printed_settings_lead_to_what_was_adopted(
    moving: Moving, capsys: pytest.CaptureFixture[str]
) -> None:
    moving.fill()
    base = {
        "source": {"local_files": {"path": str(moving.folder)}},
        "buckets": 4,
        "embedder": "openai:words-64",
        "embedding": {"base_url": moving.service.openai_url, "dimensions": 32},
        "chunking": {"max_chars": 900},
    }
    folder = moving.folder.parent / "notes"
    folder.mkdir()
    corpus = corpus_with(folder, base)
    moving = replace(moving, chain=replace(moving.chain, corpus=corpus))
    found = moving.adopt(**TRUSTED)
    adoption.adopted(found, corpus, replace(WISH, **TRUSTED))
    shown = capsys.readouterr().out
    lines = [each for each in shown.splitlines() if re.match(r"  [a-z]+: ", each)]
    recipe = wiring.recipe_of(corpus_with(folder, base | yaml.safe_load("\n".join(lines))))
    assert (recipe.embedder, recipe.chunker) == (found.model, found.chunker)
    assert recipe.dimensions == WIDTH
    assert f"base_url must go: {moving.service.openai_url}" in shown
    assert "dimensions must be 64: notes asks for 32" in shown


def corpus_with(folder: Path, attributes: dict[str, object]) -> Corpus:
    file = {"type": "rag_assets.components.Corpus", "attributes": attributes}
    (folder / "defs.yaml").write_text(yaml.safe_dump(file))
    return read_corpus(folder)


def test_the_command_adopts_and_says_what_to_write_into_the_settings(
    moving: Moving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving.fill()
    urls, corpus = moving.chain.urls, moving.chain.corpus
    file = tmp_path / "defs" / "notes" / "defs.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(
        "type: rag_assets.components.Corpus\nattributes:\n"
        f"  source: {{local_files: {{path: {moving.folder}}}}}\n  buckets: 4\n"
        f"  embedder: {corpus.embedder}\n  embedding: {{base_url: '{corpus.embedding.base_url}',"
        f" api_key_env: LOOPBACK_KEY, dimensions: {WIDTH}}}\n"
    )
    for name, word in {
        "RAG_ASSETS_DATABASE_URL": urls.owner,
        "RAG_ASSETS_WRITER_URL": urls.writer,
        "RAG_ASSETS_READER_URL": urls.reader,
        "RAG_ASSETS_DEFS": str(file.parents[1]),
        "RAG_ASSETS_HOME": str(tmp_path / "home"),
        "THEIR_URL": moving.foreign_url,
    }.items():
        monkeypatch.setenv(name, word)

    def command(*words: str) -> Result:
        fixed = ["adopt", "notes", "--table", "langchain_pg_embedding", "--text", "document"]
        rest = ["--vector", "embedding", "--document", "cmetadata.source", "--model"]
        return CliRunner().invoke(main, [*fixed, *rest, "openai:words-64", *words])

    unset = command("--from-url-env", "NOT_SET")
    assert unset.exit_code == 1
    assert "NOT_SET is not set" in unset.stderr
    done = command("--from-url-env", "THEIR_URL", "--name", "langchain")
    assert done.exit_code == 0, done.output
    assert "chunking: {adopted: langchain}" in done.stdout
    assert "cosine 1.0000 at worst" in done.stdout
    assert moving.foreign_url not in done.output
    again = json.loads(command("--json", "--name", "langchain").stdout)
    assert again["known"] == again["rows"]
    file.write_text(file.read_text() + "  chunking: {adopted: langchain}\n")
    planned = CliRunner().invoke(main, ["plan", "notes", "--json"])
    assert json.loads(planned.stdout)["to_embed"] == 0, planned.output
