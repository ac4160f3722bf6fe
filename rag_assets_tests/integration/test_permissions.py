"""Who sees what, and that PostgreSQL itself says so, whatever a role tries."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import LiteralString

import psycopg
import pytest
from psycopg import errors

from rag_assets.adapters.embedded_postgres import EmbeddedPostgres
from rag_assets.model import ChunkingSettings, Corpus, LocalFilesSettings, bucket_of
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.flow import Chain, value

SECRET = b"# Salaries\n\nThe xylophone is confidential.\n"
PUBLIC = b"# Garden\n\nRoses for everyone.\n"
Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module")
def chain(module_database: DatabaseUrls) -> Chain:
    """One document that everyone sees, one for finance alone, in the same generation."""
    source = InMemorySource({"garden.md": PUBLIC, "salaries.md": SECRET})
    corpus = Corpus("notes", source=LocalFilesSettings("/nowhere"), buckets=4)
    chain = Chain(module_database, corpus, source=source)
    finance = replace(chain, source=InMemorySource({"salaries.md": SECRET}))
    chain.run()
    bucket = bucket_of("salaries.md", 4)
    assert bucket != bucket_of("garden.md", 4)
    finance.with_settings(acl=("finance", "board")).run([bucket])
    chain.publish()
    return chain


@contextmanager
def as_role(url: str, *principals: str) -> Iterator[Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET search_path = rag_assets, public")
        if principals:
            names = "{" + ",".join(principals) + "}"
            connection.execute("SELECT set_config('rag_assets.principals', %s, false)", (names,))
        yield connection


def seen(connection: Connection, table: str) -> set[object]:
    return {doc_id for (doc_id,) in connection.execute(f"SELECT doc_id FROM {table}".encode())}


def repr_in_order(value: Collection[str]) -> str:
    """The same in every process, as runs in parallel need it."""
    return ",".join(sorted(value)) or "nobody"


EVERYWHERE = ["index_1", "served_1", "search_words(1, ARRAY['xylophon', 'rose', 'salari'], 99)"]


@pytest.mark.parametrize("place", EVERYWHERE)
@pytest.mark.parametrize(
    ("principals", "expected"),
    [
        (("everyone",), {"garden.md"}),
        (("finance",), {"salaries.md"}),
        (("board", "unknown"), {"salaries.md"}),
        (("everyone", "finance"), {"garden.md", "salaries.md"}),
        (("unknown",), set()),
        (("financ",), set()),
        (("FINANCE",), set()),
        ((), set()),
    ],
    ids=repr_in_order,
)
def test_a_reader_sees_the_rows_of_its_principals_alone(
    chain: Chain, place: str, principals: tuple[str, ...], expected: set[str]
) -> None:
    with as_role(chain.urls.reader, *principals) as connection:
        assert seen(connection, place) == expected
        counted = connection.execute(f"SELECT count(*) FROM {place}".encode()).fetchone()
        assert counted == (len(expected),)


@pytest.mark.parametrize(
    ("principals", "visible"), [(("everyone",), False), (("finance",), True), ((), False)]
)
def test_a_word_of_hidden_chunks_is_not_visible(
    chain: Chain, principals: tuple[str, ...], visible: bool
) -> None:
    with as_role(chain.urls.reader, *principals) as connection:
        found = connection.execute("SELECT visible FROM question_stems(1, ARRAY['xylophone'])")
        assert found.fetchall() == [(visible,)]


def test_a_search_finds_the_rows_of_its_principals_alone(chain: Chain) -> None:
    def found(*principals: str) -> set[str]:
        return {hit.doc_id for hit in chain.find("confidential xylophone roses", *principals).hits}

    assert found("everyone") == {"garden.md"}
    assert found("finance") == {"salaries.md"}
    assert found("everyone", "board") == {"garden.md", "salaries.md"}
    assert found("nobody") == set()


def test_principals_go_with_their_transaction(chain: Chain) -> None:
    from rag_assets import wiring

    with wiring.search_index(chain.urls) as index:
        for principals, count in ((["finance"], 1), (["nobody"], 0), ([], 0)):
            found = index.find(
                chain.published(),
                question="xylophone",
                vector=chain.embedder.embed_question("xylophone"),
                principals=principals,
            )
            assert len(found.hits) == count
        assert index._connection is not None
        setting = index._connection.execute(
            "SELECT current_setting('rag_assets.principals', true) AS principals"
        ).fetchone()
        assert setting == {"principals": ""}


@pytest.mark.parametrize(
    "odd", ["finance}", "{finance}", "'finance'", "a,finance", 'a","finance', "fin\\ance", "NULL"]
)
def test_a_principal_is_compared_and_never_interpreted(chain: Chain, odd: str) -> None:
    assert chain.find("xylophone", odd).hits == ()


# --- what a role may do at all ------------------------------------------------------------------

HIDDEN = [
    "publications",
    "gate_verdicts",
    "feedback",
    "adoptions",
    "sources",
    "failures",
    "verdicts",
    "judged_buckets",
    "index_sizes",
    "pipeline_metrics",
    "corpora",
    "buckets",
    "documents",
    "document_versions",
    "dead_letters",
    "document_texts",
    "chunk_sets",
    "chunks",
    "embeddings",
    "generations",
    "indexed_documents",
    "index_buckets",
    "evaluations",
    "evaluation_results",
    "hints",
    "withheld_deletions",
    "erased_documents",
    "embedding_claims",
    "rate_limits",
    "costs",
    "postings_1",
]


@pytest.mark.parametrize("table", HIDDEN)
def test_a_reader_has_no_way_into_a_table_without_permissions(chain: Chain, table: str) -> None:
    with (
        as_role(chain.urls.reader, "everyone", "finance") as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute(f"SELECT count(*) FROM {table}".encode())


def test_every_table_is_open_to_readers_on_purpose_or_closed(chain: Chain) -> None:
    """A new table must be given a place in this list or in `HIDDEN`."""
    query = (
        "SELECT relname, has_table_privilege('rag_assets_reader', oid, 'SELECT') FROM pg_class"
        " WHERE relnamespace = 'rag_assets'::regnamespace AND relkind IN ('r', 'v', 'm', 'p')"
    )
    with as_role(chain.urls.owner) as connection:
        open_to = {str(name): may_read for name, may_read in connection.execute(query)}
    readable = {name for name, may_read in open_to.items() if may_read}
    assert readable == {"schema_migrations", "published_index", "index_1", "served_1"}
    assert set(open_to) - readable == set(HIDDEN)


WRITES: list[LiteralString] = [
    "INSERT INTO published_index SELECT * FROM published_index",
    "UPDATE published_index SET generation = 1",
    "UPDATE index_1 SET acl = '{everyone}'",
    "DELETE FROM index_1",
    "SELECT create_generation('notes', 'f', 'p', 'c', 'e', 8, 'hnsw', 16, 64, NULL)",
    "SELECT build_vector_index(1)",
    "SELECT lists_of(1)",
    "SELECT end_generation(1, 'dropped')",
    "CREATE TABLE rag_assets.mine ()",
    "CREATE TABLE public.mine ()",
    "CREATE VIEW public.mine AS SELECT * FROM rag_assets.index_1",
    "ALTER TABLE index_1 DISABLE ROW LEVEL SECURITY",
    "ALTER VIEW served_1 SET (security_invoker = false)",
    "DROP POLICY visible ON index_1",
    "CREATE POLICY mine ON index_1 USING (true)",
    "SET ROLE rag_assets_owner",
    "SET ROLE rag_assets_writer",
    "SET SESSION AUTHORIZATION rag_assets_writer",
    "ALTER ROLE CURRENT_USER BYPASSRLS",
    "ALTER FUNCTION principals() OWNER TO CURRENT_USER",
    "CREATE OR REPLACE FUNCTION rag_assets.principals() RETURNS text[] LANGUAGE sql AS 'SELECT 1'",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT lo_import('/etc/passwd')",
]


@pytest.mark.parametrize("statement", WRITES)
def test_a_reader_changes_nothing(chain: Chain, statement: LiteralString) -> None:
    with (
        as_role(chain.urls.reader, "everyone") as connection,
        pytest.raises((errors.InsufficientPrivilege, errors.InvalidObjectDefinition)),
    ):
        connection.execute(statement)


def test_switching_row_security_off_gives_an_error_and_no_rows(chain: Chain) -> None:
    with as_role(chain.urls.reader, "everyone") as connection:
        connection.execute("SET row_security = off")
        with pytest.raises(errors.InsufficientPrivilege, match="row-level security"):
            connection.execute("SELECT * FROM index_1")


def test_a_leaky_function_in_a_condition_is_not_shown_hidden_rows(chain: Chain) -> None:
    """The view is a security barrier: a condition of the caller comes after the permissions."""
    with as_role(chain.urls.reader, "everyone") as connection:
        told: list[str] = []
        connection.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        allow_temporary(chain)
        connection.execute(
            "CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS"
            " $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$"
        )
        for column in ("doc_id", "title", "uri", "text"):
            connection.execute(f"SELECT FROM served_1 WHERE pg_temp.leak({column})".encode())
        connection.execute("SELECT FROM index_1 WHERE pg_temp.leak(doc_id)")
    assert told == [
        "garden.md",
        "Garden",
        "memory:garden.md",
        PUBLIC.decode().strip(),
        "garden.md",
    ]


def allow_temporary(chain: Chain) -> None:
    """What an external database allows everybody unless somebody forbids it."""
    with psycopg.connect(chain.urls.owner, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f'GRANT TEMPORARY ON DATABASE "{name}" TO PUBLIC'.encode())


@pytest.mark.parametrize("role", ["reader", "writer"])
@pytest.mark.parametrize(
    ("table", "call"),
    [
        ("index_buckets", "SELECT * FROM rag_assets.search_words(1, ARRAY['rose'], 5)"),
        ("index_buckets", "SELECT * FROM rag_assets.question_stems(1, ARRAY['rose'])"),
        ("generations", "SELECT rag_assets.build_vector_index(1)"),
        ("generations", "SELECT rag_assets.lists_of(1)"),
        ("published_index", "SELECT rag_assets.end_generation(1, 'dropped')"),
    ],
)
def test_a_temporary_table_does_not_run_its_owners_code_with_the_rights_of_ours(
    chain: Chain, role: str, table: str, call: str
) -> None:
    """A view under the name of a table that our functions read, with a function of the caller."""
    allow_temporary(chain)
    url = chain.urls.reader if role == "reader" else chain.urls.writer
    with as_role(url, "everyone") as connection:
        told: list[str] = []
        connection.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        connection.execute(
            "CREATE FUNCTION pg_temp.who() RETURNS integer LANGUAGE plpgsql VOLATILE AS"
            " $$ BEGIN RAISE NOTICE 'runs as %', current_user; RETURN 1; END $$"
        )
        connection.execute(
            f"CREATE TEMPORARY VIEW {table} AS SELECT pg_temp.who() AS generation, 1 AS chunks,"
            " 1 AS words, 'building' AS state, 'hnsw' AS index_kind, 1 AS hnsw_m,"
            " 1 AS hnsw_ef_construction, 1 AS ivfflat_lists".encode()
        )
        connection.execute(f"GRANT ALL ON {table} TO PUBLIC".encode())
        with suppress(errors.InsufficientPrivilege, errors.RaiseException):
            connection.execute(call.encode())
    assert told == []


# --- the writer and the owner -------------------------------------------------------------------

DEFINITIONS: list[LiteralString] = [
    "CREATE TABLE rag_assets.mine ()",
    "CREATE TABLE public.mine ()",
    "CREATE SCHEMA mine",
    "DROP TABLE index_1",
    "TRUNCATE index_1",
    "ALTER TABLE index_1 NO FORCE ROW LEVEL SECURITY",
    "INSERT INTO generations OVERRIDING SYSTEM VALUE SELECT * FROM generations",
    "UPDATE schema_migrations SET version = 0",
    "SET ROLE rag_assets_owner",
]


@pytest.mark.parametrize("statement", DEFINITIONS)
def test_a_writer_defines_nothing(chain: Chain, statement: LiteralString) -> None:
    with as_role(chain.urls.writer) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement)


def test_a_writer_sees_every_row_for_it_must_keep_them(chain: Chain) -> None:
    with as_role(chain.urls.writer) as connection:
        assert seen(connection, "index_1") == {"garden.md", "salaries.md"}


@pytest.mark.parametrize("place", EVERYWHERE)
def test_the_owner_is_held_to_its_principals_too(chain: Chain, place: str) -> None:
    with as_role(chain.urls.owner) as connection:
        assert seen(connection, place) == set()
    with as_role(chain.urls.owner, "finance") as connection:
        assert seen(connection, place) == {"salaries.md"}


def test_a_superuser_sees_through_the_view_what_the_owner_would(
    chain: Chain, server: EmbeddedPostgres
) -> None:
    """A view works with its owner's rights; only the table itself shows a superuser everything."""
    with psycopg.connect(chain.urls.owner) as connection:
        url = server.admin_url(database=connection.info.dbname)
    assert url is not None
    with as_role(url, "everyone") as connection:
        assert seen(connection, "served_1") == {"garden.md"}
        assert seen(connection, "index_1") == {"garden.md", "salaries.md"}


def test_permissions_of_a_candidate_hold_like_those_of_what_is_published(chain: Chain) -> None:
    fine = chain.with_settings(chunking=ChunkingSettings(max_chars=300, min_chars=50))
    fine.open(), fine.cut(), fine.embed(), fine.merge()
    number = fine.newest.number
    with as_role(chain.urls.reader, "everyone") as connection:
        for place in (f"index_{number}", f"served_{number}"):
            assert seen(connection, place) == {"garden.md"}
    chain.run([])
    assert len(chain.living) == 1


def test_the_embedded_reader_and_public_may_make_no_temporary_tables(
    server: EmbeddedPostgres,
) -> None:
    urls = server.urls()
    assert urls is not None
    query = "SELECT has_database_privilege('rag_assets_reader', current_database(), 'TEMPORARY')"
    assert value(urls.reader, query) is False
