"""A secret is read from the environment or a file, and shown to nobody."""

import copy
import json
import pickle
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from rag_assets.adapters.model_server import ApiKey
from rag_assets.errors import ConfigurationError
from rag_assets.settings import LARGEST_SECRET, Secret, Settings

WORD = "hunter2-canary"


@dataclass(frozen=True, slots=True)
class Holder:
    name: str
    key: Secret


def read(**environ: str) -> Secret | None:
    return Secret.from_environment("THE_KEY", environ)


def refused(**environ: str) -> str:
    """What is said, with the whole chain of causes, as an event log would keep it."""
    with pytest.raises(ConfigurationError) as caught:
        read(**environ)
    return "".join(traceback.format_exception(caught.value))


def test_a_secret_is_given_out_only_when_it_is_asked_for() -> None:
    secret = Secret(WORD)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret:>40}",
        "{0!r} {0!s} {0}".format(secret),  # noqa: UP032 - the way in which older code formats
        "%s %r" % (secret, secret),  # noqa: UP031
        repr(Holder("a", secret)),
        repr(asdict(Holder("a", secret))),
        repr([secret, {"key": secret}]),
        repr(ValueError("refused", secret)),
        str(vars(type(secret))),
    ]

    assert secret.reveal() == WORD
    assert [text for text in shown if WORD in text] == []


def test_a_secret_is_never_written_down() -> None:
    holder = Holder("a", Secret(WORD))

    with pytest.raises(TypeError) as caught:
        pickle.dumps(holder)
    assert WORD not in str(caught.value)
    assert WORD not in repr(copy.copy(holder))
    assert WORD not in repr(copy.deepcopy(holder))
    with pytest.raises(TypeError):
        pickle.dumps(Secret(WORD))
    with pytest.raises(TypeError):
        json.dumps({"key": Secret(WORD)})
    assert copy.deepcopy(Secret(WORD)).reveal() == WORD


def test_equal_secrets_are_equal_and_no_word_is() -> None:
    assert Secret(WORD) == Secret(WORD)
    assert hash(Secret(WORD)) == hash(Secret(WORD))
    assert Secret(WORD) != Secret("other")
    assert Secret("ü") != Secret("u")
    assert Secret(WORD) != WORD


def test_a_secret_comes_from_its_variable_or_from_the_file_that_another_names(
    tmp_path: Path,
) -> None:
    file = tmp_path / "key"
    file.write_text(f"\n {WORD}\r\n")

    for secret in (read(THE_KEY=f" {WORD}\n"), read(THE_KEY="", THE_KEY_FILE=str(file))):
        assert secret is not None
        assert secret.reveal() == WORD
    assert read() is None
    assert read(THE_KEY=" ", THE_KEY_FILE="") is None


def test_a_file_that_gives_no_secret_is_told_without_what_is_in_it(tmp_path: Path) -> None:
    for name, content in (
        ("empty", b" \n"),
        ("lines", f"{WORD}\n{WORD}".encode()),
        ("binary", WORD.encode() + b"\xff"),
        ("zero", WORD.encode() + b"\0" + WORD.encode()),
        ("large", WORD.encode() * LARGEST_SECRET),
    ):
        (tmp_path / name).write_bytes(content)
        said = refused(THE_KEY_FILE=str(tmp_path / name))
        assert "THE_KEY_FILE" in said
        assert WORD not in said
    for none in (tmp_path, tmp_path / "nosuch"):
        assert "cannot be read: " in refused(THE_KEY_FILE=str(none))


def test_a_secret_that_stands_where_the_name_of_its_file_should_is_not_repeated() -> None:
    for pasted in (WORD, f"{WORD}\0", "x" * 5000 + WORD, f"https://{WORD}"):
        assert WORD not in refused(THE_KEY_FILE=pasted)


def test_two_ways_at_once_are_refused(tmp_path: Path) -> None:
    said = refused(THE_KEY=WORD, THE_KEY_FILE=str(tmp_path / WORD))

    assert "THE_KEY and THE_KEY_FILE are both set" in said
    assert WORD not in said


def test_a_key_of_a_model_server_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{WORD}\n")

    assert ApiKey("THE_KEY", "m", {"THE_KEY_FILE": str(file)}).read().reveal() == WORD
    file.write_text(f"{WORD} {WORD}é")
    with pytest.raises(ConfigurationError, match="holds characters") as caught:
        ApiKey("THE_KEY", "m", {"THE_KEY_FILE": str(file)}).read()
    assert WORD not in "".join(traceback.format_exception(caught.value))


def test_the_urls_of_a_database_may_stand_in_files(tmp_path: Path) -> None:
    environ = {}
    for role in ("DATABASE", "WRITER", "READER"):
        file = tmp_path / role
        file.write_text(f"postgresql://{role.lower()}:{WORD}@db/rag\n")
        environ[f"RAG_ASSETS_{role}_URL_FILE"] = str(file)

    settings = Settings.from_environment(environ, cwd=tmp_path)

    assert settings.database is not None
    assert settings.database.writer == f"postgresql://writer:{WORD}@db/rag"
    assert WORD not in repr(settings)


def test_addresses_for_people_are_read_without_a_slash_at_their_end(tmp_path: Path) -> None:
    environ = {
        "RAG_ASSETS_UI_URL": "https://dagster.example.com/prod/",
        "RAG_ASSETS_RUNBOOKS_URL": "https://git.example.com/rag/docs/runbooks",
        "RAG_ASSETS_PORT": "3100",
    }

    told = Settings.from_environment(environ, cwd=tmp_path)
    silent = Settings.from_environment({"RAG_ASSETS_PORT": "3100"}, cwd=tmp_path)

    assert told.ui_url == "https://dagster.example.com/prod"
    assert told.runbooks_url == "https://git.example.com/rag/docs/runbooks"
    assert (silent.ui_url, silent.runbooks_url) == ("http://127.0.0.1:3100", None)


@pytest.mark.parametrize("text", ["dagster", "ftp://x", "https://", "https://a:b@c/", "http://a b"])
def test_an_address_that_leads_nowhere_or_holds_a_password_is_refused(
    text: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="RAG_ASSETS_UI_URL is no address"):
        Settings.from_environment({"RAG_ASSETS_UI_URL": text}, cwd=tmp_path)
