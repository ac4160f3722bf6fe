"""What the adapters of Amazon's services have in common: patience, and what is said of errors."""

import os
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Any

from rag_assets.errors import SourceDownError, SourceError

CONNECT_S = 5
READ_S = 15
ATTEMPTS = 3
"""The first among them, with growing waits between: within a minute it is told that one is away."""

KEPT_S = 600
"""So long a client is used again: what it was made from may change, and roles are taken away."""


class KeptClients:
    """Clients of this process, each made once for what it is made from, and anew after a while.

    They are used by several threads, and closed by nobody: one may still be at work.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._one_at_a_time = RLock()
        self._made: dict[Hashable, tuple[float, Any]] = {}

    def client(self, made_from: Hashable, make: Callable[[], Any]) -> Any:
        """With the environment of now: credentials may stand there. A fork shares no sockets."""
        variables = frozenset(each for each in os.environ.items() if each[0].startswith("AWS_"))
        key = (made_from, variables, os.getpid())
        with self._one_at_a_time:
            now = self._now()
            young = {each: one for each, one in self._made.items() if now - one[0] < KEPT_S}
            self._made = young
            if key not in young:
                client = make()
                young[key] = (now, client)
            return young[key][1]

    def forget(self) -> None:
        with self._one_at_a_time:
            self._made = {}


CLIENTS = KeptClients()


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request is about, for the message about its failure."""

    what: str
    """Such as `The bucket documents`."""
    setting: str
    """Where it is named in the corpus's settings."""
    address: str
    """And its server."""
    needs: str
    """What the policy of these credentials must allow."""
    document: str | None = None
    """The one document that is asked for."""
    after: str = ""
    """What is to be known beside what to do."""


@contextmanager
def patient_sessions() -> Iterator[None]:
    """Clients that are made meanwhile wait seconds for an answer; by themselves they wait minutes.

    For clients that somebody else makes and that take no such setting.
    """
    import botocore

    botocore.register_initializer(_be_patient)
    try:
        yield
    finally:
        botocore.unregister_initializer(_be_patient)


def _be_patient(session: Any) -> None:
    session.set_default_client_config(client_config())


def client_config() -> Any:
    from botocore.config import Config

    return Config(
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
    )


@contextmanager
def failures_of(asked: Asked) -> Iterator[None]:
    """What a client raises is told in our words alone: a server's may repeat a session's token.

    Where every other request would fail as well, the next look makes its client anew.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        failure = _answered(error.response, asked)
    except (BotoCoreError, ResponseParserError) as error:
        failure = _unanswered(type(error).__name__, asked)
    else:
        return
    if failure.down:
        CLIENTS.forget()
    raise _told(asked, failure) from None


def code_of(error: Any) -> str:
    """Of a `ClientError`; where the answer had no body, the number of its status."""
    return str(error.response.get("Error", {}).get("Code", ""))[:80]


@dataclass(frozen=True, slots=True)
class _Failure:
    happened: str
    to_do: str
    down: bool = True
    """Every other request would fail as well."""


def _told(asked: Asked, failure: _Failure) -> SourceError:
    of = f" for {asked.document}" if asked.document is not None else ""
    message = f"{asked.what}: {failure.happened}{of}.{asked.after} {failure.to_do}"
    return SourceDownError(message) if failure.down else SourceError(message)


_RENEW = (
    "See to the credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile that the"
    " corpus names, or the role of this machine."
)
_AGAIN = "It is tried again by itself"
_ABSENT = _Failure("it does not exist", "Make it, or correct `{setting}`.")
_DENIED = _Failure("access is denied", "Their policy must allow {needs}.", down=False)
_ELSEWHERE = _Failure("it is in another region", "Write {region} to `source.s3.region`.")
_REFUSED = _Failure("the credentials are refused ({code})", _RENEW)
_BUSY = _Failure("it asks for fewer requests ({code})", f"{_AGAIN}.")
_ARCHIVED = _Failure(
    "there is only an archived copy",
    "Restore it, or exclude it in the corpus's `source`.",
    down=False,
)
_OTHERWISE = _Failure(
    "the answer was {code} (status {status})",
    f"{_AGAIN}; if it stays so, look into the log of the store.",
    down=False,
)
_ANSWERS: Mapping[_Failure, str] = {
    _ABSENT: "404 AWS.SimpleQueueService.NonExistentQueue InvalidBucketName NoSuchBucket"
    " QueueDoesNotExist",
    _DENIED: "403 AccessDenied AccessDeniedException AllAccessDisabled Forbidden",
    _ELSEWHERE: "301 AuthorizationHeaderMalformed IllegalLocationConstraintException"
    " PermanentRedirect",
    _REFUSED: "ExpiredToken ExpiredTokenException IncompleteSignature InvalidAccessKeyId"
    " InvalidClientTokenId InvalidToken MissingAuthenticationToken RequestTimeTooSkewed"
    " SignatureDoesNotMatch TokenRefreshRequired UnrecognizedClientException",
    _BUSY: "503 RequestLimitExceeded RequestThrottled ServiceUnavailable SlowDown Throttling"
    " ThrottlingException",
    _ARCHIVED: "InvalidObjectState",
}
_BY_CODE = {code: failure for failure, codes in _ANSWERS.items() for code in codes.split()}


def _answered(response: Mapping[str, Any], asked: Asked) -> _Failure:
    """What the store's answer means; of one document's, whether the others would fail too."""
    error, about = response.get("Error", {}), response.get("ResponseMetadata", {})
    code = str(error.get("Code", ""))[:80]
    failure = _BY_CODE.get(code, _OTHERWISE)
    words = {
        "code": code,
        "status": about.get("HTTPStatusCode", "?"),
        "setting": asked.setting,
        "needs": asked.needs,
        "region": error.get("Region")
        or about.get("HTTPHeaders", {}).get("x-amz-bucket-region", "its region"),
    }
    return _Failure(
        failure.happened.format_map(words),
        failure.to_do.format_map(words),
        down=failure.down or asked.document is None,
    )


_SILENCE: Mapping[str, _Failure] = {
    "ConnectTimeoutError": _Failure("there is no answer in time", f"{_AGAIN}."),
    "NoCredentialsError": _Failure("there are no credentials", _RENEW),
    "NoRegionError": _Failure("its region is not known", "Write it to `source.s3.region`."),
    "ParamValidationError": _Failure("nothing can have this name", "Correct `{setting}`."),
    "ProfileNotFound": _Failure(
        "the profile is not in the files of Amazon's clients",
        "Add it there, or correct `source.s3.profile`.",
    ),
    "ReadTimeoutError": _Failure("there is no answer in time", f"{_AGAIN}."),
    "ResponseParserError": _Failure(
        "the answer cannot be read", "See whether a proxy answers instead."
    ),
    "SSLError": _Failure(
        "the certificate is not trusted",
        "AWS_CA_BUNDLE names a file with the authority that signed it.",
    ),
}
_OF_CREDENTIALS = ("Credential", "SSO", "Token", "Login", "MetadataRetrieval")


def _unanswered(kind: str, asked: Asked) -> _Failure:
    """From the name of the exception alone, for its text may hold anything."""
    if (known := _SILENCE.get(kind)) is not None:
        return _Failure(known.happened, known.to_do.format(setting=asked.setting))
    if any(word in kind for word in _OF_CREDENTIALS):
        return _Failure(f"no credentials can be had ({kind})", _RENEW)
    return _Failure(
        f"there is no connection ({kind})",
        f"See whether it is up, and to the network and `{asked.address}`. {_AGAIN}.",
    )
