"""What a bucket promises beyond any source, and what it says when it fails."""

import traceback
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.config import Config

from rag_assets.adapters.s3 import S3Objects, making_client
from rag_assets.errors import SourceDownError, SourceError
from rag_assets.model import S3Settings
from rag_assets_tests.services.object_store import ENVIRONMENT, ObjectStore

LISTING = "GET /documents?list-type=2"
OBJECT = "GET /documents/"


@pytest.fixture
def store(object_store: ObjectStore) -> ObjectStore:
    object_store.make_bucket("documents")
    return object_store


def bucket(store: ObjectStore, **settings: Any) -> S3Objects:
    return S3Objects(store.settings("documents", **settings), store.s3)


def names(source: S3Objects) -> list[str]:
    return [each.doc_id for each in source.objects()]


def hashes(source: S3Objects) -> dict[str, bytes]:
    return {each.doc_id: each.source_hash for each in source.objects()}


# --- keys -----------------------------------------------------------------------------------------

ODD = [
    "a b.md",
    " .md",
    "ü.md",
    "u\u0308.md",
    "🦓.md",
    "a+b%20&c=?#.md",
    "%41.md",
    "quo'te\".md",
    "<&>.md",
    "back\\slash.md",
    "\\x41.md",
    "\\x5cx41.md",
    "*?[].md",
    "//double.md",
    "/leading.md",
    "in//the//middle.md",
    "../up.md",
    "a/../b.md",
    "./here.md",
    "...md",
    ".hidden/a.md",
    "x" * 1000 + ".md",
]


def test_any_key_leads_to_its_own_document(store: ObjectStore) -> None:
    store.put_many("documents", {key: key.encode() for key in ODD})
    source = bucket(store)
    listed = list(source.objects())
    assert len({each.doc_id for each in listed}) == len({each.uri for each in listed}) == len(ODD)
    assert {source.read(each.doc_id) for each in listed} == {key.encode() for key in ODD}
    assert [source.look(each.doc_id) for each in listed] == listed


def test_a_plain_key_is_its_own_id_and_its_address_is_quoted(store: ObjectStore) -> None:
    store.put_many("documents", {"a/ü b.md": b"", "/c.md": b""})
    assert {each.doc_id: each.uri for each in bucket(store).objects()} == {
        "a/ü b.md": "s3://documents/a/%C3%BC%20b.md",
        "/c.md": "s3://documents//c.md",
    }


def test_a_prefix_is_no_part_of_an_id_and_ends_nowhere_of_itself(store: ObjectStore) -> None:
    store.put_many("documents", dict.fromkeys(("wiki/a.md", "wiki2/b.md", "c.md", "wiki"), b""))
    assert names(bucket(store, prefix="wiki/")) == ["a.md"]
    assert names(bucket(store, prefix="wiki")) == ["/a.md", "2/b.md"]
    assert [each.uri for each in bucket(store, prefix="wiki/").objects()] == [
        "s3://documents/wiki/a.md"
    ]


def test_patterns_choose_by_the_id_in_a_listing_and_in_a_look(store: ObjectStore) -> None:
    keys = ("wiki/a.md", "wiki/old/b.md", "wiki/c.bin", "wiki/d/e.txt")
    store.put_many("documents", dict.fromkeys(keys, b""))
    source = bucket(store, prefix="wiki/", exclude=("old/**",))
    assert names(source) == ["a.md", "d/e.txt"]
    looked = {each: source.look(each) for each in ("a.md", "old/b.md", "c.bin", "../wiki/a.md", "")}
    assert [name for name, found in looked.items() if found is not None] == ["a.md"]


def test_a_folder_that_a_console_made_is_no_document(store: ObjectStore) -> None:
    store.put_many("documents", {"wiki/": b"", "wiki/sub/": b"", "wiki/odd/": b"text", "a.md": b""})
    source = bucket(store, include=("**",))
    assert names(source) == ["a.md", "wiki/odd/"]
    assert source.look("wiki/sub/") is None
    assert source.read("wiki/odd/") == b"text"


def test_more_keys_than_a_page_holds_are_all_listed(store: ObjectStore) -> None:
    keys = [f"{number:05}.md" for number in range(2500)]
    store.put_many("documents", dict.fromkeys(keys, b""))
    assert names(bucket(store)) == keys
    assert sum(LISTING in line for line in store.requests) == 3


# --- what is a change -----------------------------------------------------------------------------


def test_the_same_bytes_put_again_are_no_change_and_other_bytes_are_until_they_are_put_back(
    store: ObjectStore,
) -> None:
    source = bucket(store)
    seen = []
    for content in (b"One.", b"One.", b"Two.", b"One."):
        store.put("documents", "a.md", content)
        seen.append(hashes(source)["a.md"])
    assert seen[0] == seen[1] == seen[3] != seen[2]


def test_what_is_read_is_what_is_there_now(store: ObjectStore) -> None:
    source = bucket(store)
    store.put("documents", "a.md", b"One.")
    (listed,) = source.objects()
    store.put("documents", "a.md", b"Two.")
    assert source.read(listed.doc_id) == b"Two."


def test_of_versions_only_the_current_one_is_a_document(object_store: ObjectStore) -> None:
    object_store.make_bucket("documents", versioned=True)
    source = bucket(object_store)
    for content in (b"One.", b"Two."):
        object_store.put("documents", "a.md", content)
    second = hashes(source)
    assert source.read("a.md") == b"Two."
    object_store.delete("documents", "a.md")
    assert names(source) == []
    assert source.look("a.md") is None
    assert source.read("a.md") is None
    versions = object_store.s3.list_object_versions(Bucket="documents")
    (marker,) = versions["DeleteMarkers"]
    object_store.s3.delete_object(Bucket="documents", Key="a.md", VersionId=marker["VersionId"])
    assert hashes(source) == second


def test_an_object_put_in_parts_is_an_object(store: ObjectStore) -> None:
    where = {"Bucket": "documents", "Key": "large.md"}
    upload = store.s3.create_multipart_upload(**where)["UploadId"]
    pieces = [b"a" * 5 * 2**20, b"the end"]
    parts = [
        {
            "PartNumber": number,
            "ETag": store.s3.upload_part(**where, UploadId=upload, PartNumber=number, Body=piece)[
                "ETag"
            ],
        }
        for number, piece in enumerate(pieces, start=1)
    ]
    store.s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    source = bucket(store)
    (listed,) = source.objects()
    assert source.look("large.md") == listed
    assert source.read("large.md") == b"".join(pieces)


# --- a listing is whole, or none ------------------------------------------------------------------


def test_a_store_that_goes_away_between_two_pages_lists_nothing(store: ObjectStore) -> None:
    store.put_many("documents", {f"{number:05}.md": b"" for number in range(1500)})
    listing = bucket(store).objects()
    next(listing)
    store.stop()
    with pytest.raises(SourceDownError, match=r"no connection.*Nothing was deleted"):
        list(listing)


def test_an_error_that_lasts_on_a_later_page_is_raised_and_one_that_passes_is_not(
    store: ObjectStore,
) -> None:
    store.put_many("documents", {f"{number:05}.md": b"" for number in range(1500)})
    store.fail(500, only=LISTING, after=1, times=1)
    assert len(names(bucket(store))) == 1500
    store.fail(500, only=LISTING, after=1)
    with pytest.raises(SourceDownError, match=r"InternalError \(status 500\).*Nothing was deleted"):
        names(bucket(store))


LISTED = """<?xml version="1.0"?><ListBucketResult><Name>documents</Name>{}
<Contents><Key>a.md</Key><Size>1</Size><ETag>"x"</ETag>
<LastModified>2025-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>"""


@pytest.mark.parametrize(
    "body",
    [
        LISTED.format("<IsTruncated>true</IsTruncated>"),
        LISTED.format(
            "<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>"
        ),
        LISTED.format(""),
        LISTED.format("<IsTruncated>false</IsTruncated>").replace("ETag", "Tag"),
        "<html><body>Sign in to the network.</body></html>",
        "<html><body>Sign in to the network.<br></body></html>",
        "{}",
        "",
    ],
    ids=[
        "no mark",
        "always the same mark",
        "no end",
        "no etag",
        "page",
        "bad page",
        "json",
        "empty",
    ],
)
def test_an_answer_that_is_no_whole_listing_is_not_taken_for_one(
    store: ObjectStore, body: str
) -> None:
    store.fail(200, body=body.encode(), only=LISTING)
    with pytest.raises(SourceError, match="Nothing was deleted"):
        names(bucket(store))


# --- reading --------------------------------------------------------------------------------------


def test_a_content_that_breaks_off_is_asked_for_again(store: ObjectStore) -> None:
    store.put("documents", "a.md", b"Text.")
    store.fail(200, body=b"Te", cut=3, only=OBJECT, times=2)
    assert bucket(store).read("a.md") == b"Text."
    store.fail(200, body=b"Te", cut=3, only=OBJECT)
    with pytest.raises(SourceError, match=r"a\.md cannot be read \(it broke off 3 times") as raised:
        bucket(store).read("a.md")
    assert not isinstance(raised.value, SourceDownError)


def test_an_object_larger_than_any_text_is_told_and_not_waited_for(store: ObjectStore) -> None:
    store.put("documents", "dump.md")
    store.fail(200, body=b"Text.", cut=65 * 2**20, only=OBJECT)
    with pytest.raises(SourceError, match="more than 64 MB"):
        bucket(store).read("dump.md")


def test_what_is_denied_or_archived_is_the_trouble_of_its_document_alone(
    store: ObjectStore,
) -> None:
    store.put("documents", "a.md")
    store.s3.put_object(Bucket="documents", Key="old.md", Body=b"Old.", StorageClass="GLACIER")
    store.fail(403, code="AccessDenied", only="/documents/a.md")
    source = bucket(store)
    listed = list(source.objects())
    assert [each.doc_id for each in listed] == ["a.md", "old.md"]
    assert [source.look(each.doc_id) for each in listed] == listed
    for doc_id, why in (("a.md", r"denied.*s3:GetObject"), ("old.md", "archived copy")):
        with pytest.raises(SourceError, match=why) as raised:
            source.read(doc_id)
        assert doc_id in str(raised.value)
        assert not isinstance(raised.value, SourceDownError)


@pytest.mark.parametrize("ask", ["read", "look"])
def test_a_bucket_that_is_gone_has_not_lost_its_documents(
    object_store: ObjectStore, ask: str
) -> None:
    with pytest.raises(SourceDownError, match=r"does not exist.*source\.s3\.bucket"):
        getattr(bucket(object_store), ask)("a.md")


@pytest.mark.parametrize("ask", ["read", "look"])
def test_a_store_that_is_away_has_not_lost_its_documents(store: ObjectStore, ask: str) -> None:
    store.put("documents", "a.md")
    store.stop()
    with pytest.raises(SourceDownError, match="no connection"):
        getattr(bucket(store), ask)("a.md")


# --- what a person is told ------------------------------------------------------------------------


def made(settings: S3Settings, **config: Any) -> S3Objects:
    """With a client of boto3's own, as the resource makes one."""
    with making_client(settings):
        session = boto3.session.Session(profile_name=settings.profile)
        client = session.client(
            "s3",
            endpoint_url=settings.endpoint_url,
            region_name=settings.region,
            config=Config(**config),
        )
    return S3Objects(settings, client)


def told(attempt: Iterable[object]) -> str:
    """The message; no secret may stand in it, nor in all that a log would print."""
    with pytest.raises(SourceDownError) as raised:
        list(attempt)
    printed = "".join(traceback.format_exception(raised.value))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert ENVIRONMENT[name] not in printed
    assert "documents" in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (404, "NoSuchBucket", "does not exist"),
        (403, "AccessDenied", "s3:ListBucket"),
        (403, "InvalidAccessKeyId", "credentials are refused (InvalidAccessKeyId)"),
        (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        (400, "ExpiredToken", "credentials are refused (ExpiredToken)"),
        (400, "IllegalLocationConstraintException", "source.s3.region"),
        (503, "SlowDown", "fewer requests"),
        (418, "Teapot", "Teapot (status 418)"),
    ],
)
def test_an_error_of_the_store_is_told_with_what_to_do(
    store: ObjectStore, status: int, code: str, words: str
) -> None:
    secret = ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]
    body = f"<Error><Code>{code}</Code><Message>Canonical: {secret}</Message></Error>"
    store.fail(status, body=body.encode(), only=LISTING)
    once = made(store.settings("documents"), retries={"total_max_attempts": 1})
    assert words in told(once.objects())


def test_a_bucket_in_another_region_is_told_with_its_region(store: ObjectStore) -> None:
    body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>"
    store.fail(400, body=body)
    assert "Write eu-west-3 to `source.s3.region`" in told(
        made(store.settings("documents")).objects()
    )


def test_a_store_that_does_not_answer_is_not_waited_for(store: ObjectStore) -> None:
    store.fail(200, delay_s=1.5, only=LISTING, times=1)
    impatient = made(
        store.settings("documents"), read_timeout=0.3, retries={"total_max_attempts": 1}
    )
    assert "no answer in time" in told(impatient.objects())


def test_an_address_where_nobody_listens_is_told(store: ObjectStore) -> None:
    nobody = replace(store.settings("documents"), endpoint_url="http://127.0.0.1:9")
    assert "source.s3.endpoint_url" in told(made(nobody).objects())


def test_missing_credentials_are_told(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "there are no credentials" in told(made(store.settings("documents")).objects())


def test_a_profile_that_is_not_there_is_told(store: ObjectStore) -> None:
    settings = store.settings("documents", profile="nobody")

    def attempt() -> Iterator[object]:
        yield made(settings)

    assert "source.s3.profile" in told(attempt())


def test_a_name_that_no_bucket_can_have_is_told(store: ObjectStore) -> None:
    settings = store.settings("documents/a")
    assert "source.s3.bucket" in told(made(settings).objects())
