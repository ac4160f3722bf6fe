"""What every source promises. A new one joins by a builder in `SOURCES`."""

import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rag_assets.adapters.local_files import LocalFiles
from rag_assets.adapters.s3 import S3Objects
from rag_assets.errors import SourceError
from rag_assets.model import LocalFilesSettings
from rag_assets.ports import Source
from rag_assets.testing import InMemorySource

if TYPE_CHECKING:
    from rag_assets_tests.services.object_store import ObjectStore

Contents = Mapping[str, bytes | None]
"""Documents to write, or to take away where the content is None."""


class OverAFolder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source: Source = LocalFiles(LocalFilesSettings(str(folder)))

    def change(self, contents: Contents) -> None:
        for name, content in contents.items():
            file = self.folder / name
            if content is None:
                file.unlink()
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)


class OverABucket:
    def __init__(self, store: "ObjectStore") -> None:
        store.make_bucket("documents")
        store.put("documents", "wiki.md", b"Not below the prefix.")
        self.store = store
        settings = store.settings("documents", prefix="wiki/")
        self.source: Source = S3Objects(settings, store.s3)

    def change(self, contents: Contents) -> None:
        for name, content in contents.items():
            if content is None:
                self.store.delete("documents", f"wiki/{name}")
            else:
                self.store.put("documents", f"wiki/{name}", content)


class InMemory:
    def __init__(self) -> None:
        self.memory = InMemorySource()
        self.source: Source = self.memory

    def change(self, contents: Contents) -> None:
        for name, content in contents.items():
            if content is None:
                del self.memory.contents[name]
            else:
                self.memory.contents[name] = content


World = OverAFolder | OverABucket | InMemory
SOURCES: dict[str, Callable[[pytest.FixtureRequest], World]] = {
    "local files": lambda request: OverAFolder(request.getfixturevalue("folder")),
    "bucket": lambda request: OverABucket(request.getfixturevalue("object_store")),
    "memory": lambda request: InMemory(),
}


@pytest.fixture(params=SOURCES)
def world(request: pytest.FixtureRequest) -> World:
    return SOURCES[request.param](request)


def hashes(source: Source) -> dict[str, bytes]:
    return {each.doc_id: each.source_hash for each in source.objects()}


def test_every_document_is_listed_once(world: World) -> None:
    world.change({"a.md": b"A", "b/c.md": b"C", "b/ü e.md": b""})
    listed = [each.doc_id for each in world.source.objects()]
    assert sorted(listed) == ["a.md", "b/c.md", "b/ü e.md"]


def test_what_is_listed_can_be_read(world: World) -> None:
    contents = {"a.md": b"A", "b/c.md": bytes(range(256)), "empty.md": b""}
    world.change(contents)
    found = {each.doc_id: world.source.read(each.doc_id) for each in world.source.objects()}
    assert found == contents


def test_two_looks_at_the_same_documents_are_equal(world: World) -> None:
    world.change({"a.md": b"A", "b.md": b"B"})
    assert list(world.source.objects()) == list(world.source.objects())


def test_a_change_changes_its_hash_alone(world: World) -> None:
    world.change({"a.md": b"A", "b.md": b"B"})
    before = hashes(world.source)
    world.change({"a.md": b"Z"})
    after = hashes(world.source)
    assert after["a.md"] != before["a.md"]
    assert after["b.md"] == before["b.md"]


def test_a_document_that_has_left_is_not_listed_and_has_no_content(world: World) -> None:
    world.change({"a.md": b"A", "b.md": b"B"})
    world.change({"a.md": None})
    assert list(hashes(world.source)) == ["b.md"]
    assert world.source.read("a.md") is None
    assert world.source.read("never.md") is None


@pytest.mark.parametrize("world", ["local files", "bucket"], indirect=True)
def test_a_document_is_dated_by_its_source(world: World) -> None:
    world.change({"a.md": b"A"})
    (found,) = world.source.objects()
    assert found.modified_at is not None
    assert abs(datetime.now(UTC) - found.modified_at) < timedelta(minutes=1)


def test_a_look_at_one_document_sees_what_a_listing_sees(world: World) -> None:
    world.change({"a.md": b"A", "b/ü e.md": b"", "c d.md": b"C"})
    listed = {each.doc_id: each for each in world.source.objects()}
    assert {doc_id: world.source.look(doc_id) for doc_id in listed} == listed


def test_a_look_at_what_is_not_there_sees_nothing(world: World) -> None:
    world.change({"a.md": b"A"})
    world.change({"a.md": None})
    for doc_id in ("a.md", "never.md", "never/b.md", "a.md/b.md"):
        assert world.source.look(doc_id) is None


def test_a_look_sees_a_change(world: World) -> None:
    world.change({"a.md": b"A"})
    before = world.source.look("a.md")
    world.change({"a.md": b"B"})
    after = world.source.look("a.md")
    assert before is not None
    assert after is not None
    assert after.source_hash != before.source_hash


def test_an_empty_source_lists_nothing(world: World) -> None:
    assert list(world.source.objects()) == []


def test_an_address_leads_to_its_document(world: World) -> None:
    world.change({"a b.md": b"A", "c/d.md": b"D"})
    addresses = [each.uri for each in world.source.objects()]
    assert len(set(addresses)) == 2
    assert all(":" in each for each in addresses)


# --- a folder -----------------------------------------------------------------------------------


def local(folder: Path, **settings: tuple[str, ...]) -> LocalFiles:
    return LocalFiles(LocalFilesSettings(str(folder), **settings))


def names(source: Source) -> list[str]:
    return [each.doc_id for each in source.objects()]


@pytest.fixture
def a_file(folder: Path) -> Path:
    file = folder / "a.md"
    file.write_text("Text.")
    return file


def test_every_single_write_is_seen_however_quick(folder: Path, a_file: Path) -> None:
    """Also within one tick of the clock, at the same length, with the old time put back."""
    source, seen = local(folder), set()
    for number in range(20):
        a_file.write_text(f"Text {number % 10}")
        os.utime(a_file, ns=(1, 1))
        seen.add(hashes(source)["a.md"])
    assert len(seen) == 20


def test_a_file_is_listed_when_its_times_are_old_enough_to_tell_of_a_later_write(
    folder: Path, a_file: Path
) -> None:
    """The clock of a file system moves in ticks; not every system makes them visible."""
    a_file.write_text("Young.")
    assert names(local(folder)) == ["a.md"]
    assert time.time() - a_file.stat().st_ctime >= 0.05


def test_a_file_replaced_by_another_of_the_same_age_and_length_is_seen(
    folder: Path, a_file: Path
) -> None:
    before = hashes(local(folder))
    other = folder / "other"
    other.write_text("Other")
    os.utime(other, ns=(a_file.stat().st_atime_ns, a_file.stat().st_mtime_ns))
    other.replace(a_file)
    assert hashes(local(folder)) != before


def test_a_file_that_is_always_being_written_is_listed_all_the_same(
    folder: Path, a_file: Path
) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            a_file.write_text("Text.")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert names(local(folder)) == ["a.md"]
    finally:
        stop.set()
        writer.join()


ODD = [
    "a b.md",
    "ü.md",
    "u\u0308.md",
    "line\nend.md",
    "tab\t.md",
    "quo'te\".md",
    "back\\slash.md",
    "\\x41.md",
    "\\x5cx41.md",
    "*?[].md",
    "%41.md",
    "#?.md",
    " .md",
    "x" * 252 + ".md",
    "🦓.md",
]
ODD_BYTES = [b"caf\xe9.md", b"\xff\xfe.md", b"caf\\xe9.md", b"\\x5c\xe9.md", b"\xc3\xa9\xe9.md"]


def test_any_name_leads_to_its_own_document(folder: Path) -> None:
    raw = [*(os.fsencode(name) for name in ODD), *ODD_BYTES]
    for name in raw:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(name)
    source = local(folder)
    listed = names(source)
    assert len(listed) == len(set(listed)) == len(raw)
    assert {source.read(doc_id) for doc_id in listed} == set(raw)
    for doc_id in listed:
        doc_id.encode()


def test_a_plain_name_is_its_own_id(folder: Path) -> None:
    for name in ("a b.md", "ü.md", "back\\slash.md", "🦓.md"):
        (folder / name).touch()
    assert set(names(local(folder))) == {"a b.md", "ü.md", "back\\slash.md", "🦓.md"}


@pytest.mark.timeout(20)
def test_what_is_no_file_is_not_waited_for(folder: Path, a_file: Path) -> None:
    os.mkfifo(folder / "pipe.md")
    (folder / "folder.md").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        before = Path.cwd()
        os.chdir(folder)  # the path of a socket is short
        try:
            listening.bind("socket.md")
        finally:
            os.chdir(before)
        assert names(local(folder)) == ["a.md"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("becomes", ["a pipe", "a folder", "a link outside", "a file above"])
def test_a_file_that_is_something_else_when_it_is_read_has_left(
    folder: Path, tmp_path: Path, becomes: str
) -> None:
    file = folder / "sub" / "a.md"
    file.parent.mkdir()
    file.write_text("Text.")
    source = local(folder)
    assert names(source) == ["sub/a.md"]
    file.unlink()
    match becomes:
        case "a pipe":
            os.mkfifo(file)
        case "a folder":
            file.mkdir()
        case "a link outside":
            (tmp_path / "secret").write_text("Secret.")
            file.symlink_to(tmp_path / "secret")
        case "a file above":
            file.parent.rmdir()
            file.parent.write_text("Text.")
    assert source.read("sub/a.md") is None


def test_links_are_followed_inside_the_folder_and_never_out_of_it(
    folder: Path, a_file: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.md").write_text("Secret.")
    (folder / "inside.md").symlink_to(a_file)
    (folder / "out.md").symlink_to(outside / "secret.md")
    (folder / "up.md").symlink_to("../outside/secret.md")
    (folder / "chain.md").symlink_to("out.md")
    (folder / "linked").symlink_to(outside)
    (folder / "nowhere.md").symlink_to("nothing.md")
    source = local(folder)
    assert names(source) == ["a.md", "inside.md"]
    for doc_id in ("out.md", "linked/secret.md", "../outside/secret.md", "chain.md"):
        assert source.read(doc_id) is None
    assert source.read(str(outside / "secret.md")) is None


@pytest.mark.timeout(20)
def test_links_in_a_circle_end(folder: Path, a_file: Path) -> None:
    (folder / "self.md").symlink_to("self.md")
    (folder / "one.md").symlink_to("two.md")
    (folder / "two.md").symlink_to("one.md")
    (folder / "loop").symlink_to(".")
    assert names(local(folder)) == ["a.md"]


def test_a_folder_that_is_itself_a_link_is_a_folder(
    folder: Path, a_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(folder)
    source = local(tmp_path / "link")
    assert names(source) == ["a.md"]
    assert source.read("a.md") == b"Text."


def test_a_look_sees_nothing_that_a_listing_leaves_out(
    folder: Path, a_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.md").write_text("Secret.")
    (folder / "out.md").symlink_to(tmp_path / "secret.md")
    (folder / "inside.md").symlink_to(a_file)
    (folder / "folder.md").mkdir()
    (folder / ".git").mkdir()
    for name in (".hidden.md", ".git/b.md", "other.bin", "draft.md"):
        (folder / name).touch()
    source = local(folder, exclude=("draft.md",))
    outside = ("out.md", "../secret.md", str(tmp_path / "secret.md"), "../documents/a.md")
    hidden = (".hidden.md", ".git/b.md", "other.bin", "draft.md", "folder.md", "", ".", "/")
    for doc_id in (*outside, *hidden):
        assert source.look(doc_id) is None, doc_id
    assert source.look("inside.md") in list(source.objects())


def test_a_file_larger_than_any_text_is_told_and_not_held_in_memory(folder: Path) -> None:
    with (folder / "dump.md").open("wb") as file:
        file.truncate(65 * 2**20)
    source = local(folder)
    assert names(source) == ["dump.md"]
    with pytest.raises(SourceError, match="more than 64 MB"):
        source.read("dump.md")


def test_hidden_files_and_folders_are_no_documents(folder: Path, a_file: Path) -> None:
    (folder / ".git").mkdir()
    for name in (".hidden.md", ".git/b.md", ".md"):
        (folder / name).touch()
    assert names(local(folder)) == ["a.md"]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("**/*.md",), (), ["a.md", "sub/b.md", "sub/deep/c.md"]),
        (("*.md",), (), ["a.md"]),
        (("sub/*.md",), (), ["sub/b.md"]),
        (("sub/**",), (), ["sub/b.md", "sub/d.txt", "sub/deep/c.md"]),
        (("**/*",), ("**/deep/**",), ["a.md", "sub/b.md", "sub/d.txt"]),
        (("**/?.txt", "a.*"), (), ["a.md", "sub/d.txt"]),
        (("**/*.md",), ("**/*.md",), []),
        (("sub/b.md", "**/b.md"), (), ["sub/b.md"]),
        (("a.m",), (), []),
        (("[a].md",), (), []),
    ],
)
def test_patterns_choose_the_documents(
    folder: Path, include: tuple[str, ...], exclude: tuple[str, ...], expected: list[str]
) -> None:
    (folder / "sub" / "deep").mkdir(parents=True)
    for name in ("a.md", "sub/b.md", "sub/deep/c.md", "sub/d.txt"):
        (folder / name).touch()
    assert names(local(folder, include=include, exclude=exclude)) == expected


def test_a_file_of_a_year_that_no_calendar_has_is_listed(folder: Path, a_file: Path) -> None:
    try:
        os.utime(a_file, (10**13, 10**13))
    except OSError:
        pytest.skip("this file system has no such times")
    assert names(local(folder)) == ["a.md"]


def test_a_missing_folder_is_told_and_lists_nothing(folder: Path, a_file: Path) -> None:
    source = local(folder)
    a_file.unlink()
    folder.rmdir()
    with pytest.raises(SourceError, match=r"is not there\. Nothing was deleted"):
        names(source)
    with pytest.raises(SourceError, match="is not there"):
        source.read("a.md")
    with pytest.raises(SourceError, match="is not there"):
        names(local(folder / "never"))


def test_a_file_in_place_of_the_folder_is_told(a_file: Path) -> None:
    with pytest.raises(SourceError, match="is not there"):
        names(local(a_file))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(folder: Path, a_file: Path) -> None:
    a_file.chmod(0)
    source = local(folder)
    assert names(source) == ["a.md"]
    with pytest.raises(SourceError, match="Permission denied"):
        source.read("a.md")
    (folder / "sub").mkdir(mode=0)
    try:
        with pytest.raises(SourceError, match="cannot be listed"):
            names(source)
    finally:
        (folder / "sub").chmod(stat.S_IRWXU)


def test_a_path_that_is_too_long_is_listed_but_cannot_be_read(folder: Path, a_file: Path) -> None:
    deep = folder.joinpath(*["long " * 40] * 8)
    deep.mkdir(parents=True)
    for name in ("one.md", "two.md"):
        (deep / name).touch()
    source = local(folder)
    listed = names(source)
    assert len(set(listed)) == 3
    assert max(len(doc_id.encode()) for doc_id in listed) < 1500
    for doc_id in set(listed) - {"a.md"}:
        with pytest.raises(SourceError):
            source.read(doc_id)


def test_files_that_come_and_go_while_they_are_listed_do_not_end_the_listing(
    folder: Path, a_file: Path
) -> None:
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for number in range(20):
                (folder / f"{number}.md").write_text("Text.")
            for number in range(20):
                (folder / f"{number}.md").unlink()

    churning = threading.Thread(target=churn)
    churning.start()
    try:
        for _ in range(4):
            assert "a.md" in names(local(folder))
    finally:
        stop.set()
        churning.join()
