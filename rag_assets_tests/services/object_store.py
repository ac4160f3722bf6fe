"""An object store and its queues on the loopback: moto's S3 and SQS behind a real HTTP server.

In a test, by the fixture `object_store` (see conftest.py), which also puts credentials into the
environment and empties the store before each test:

    def test_something(object_store: ObjectStore) -> None:
        object_store.make_bucket("documents")
        object_store.put("documents", "handbook/a.md", b"# A")
        object_store.delete("documents", "handbook/a.md")
        settings = object_store.settings("documents", prefix="handbook/")   # S3Settings

With events, which arrive in the queue as from Amazon:

        queue_url = object_store.make_queue("changes")
        object_store.notify("documents", queue_url)
        settings = object_store.settings("documents", queue_url=queue_url)

Processes that a test starts reach the store at `object_store.url`, with `os.environ` as it is in
the test. Elsewhere: `with ObjectStore() as store:` and `os.environ.update(store.environment)`.

Faults: `store.fail(503, times=2)` answers requests so, `store.fail(None)` hangs up on them,
`only="GET /documents"` picks which. `store.stop()` and `store.start()` take the whole server away
and bring it back with all it holds, at the same port. `store.requests` are those that came.
"""

import json
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from rag_assets.model import S3Settings

REGION = "us-east-1"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIALOOPBACK00000000",
    "AWS_SECRET_ACCESS_KEY": "loopback-secret-0123456789",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
_ACCOUNT = "123456789012"


@dataclass(slots=True)
class _Fault:
    status: int | None
    """None: the connection ends without an answer."""
    code: str
    body: bytes | None
    cut: int
    delay_s: float
    only: str
    after: int
    times: int


class ObjectStore:
    """The store in threads of this process."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        """Such as `GET /documents?list-type=2&prefix=`, in the order in which they came."""
        self._faults: list[_Fault] = []
        self._app = DomainDispatcherApplication(create_backend_app)
        self._port = 0
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None
        self.start()
        self.s3: Any = self._client("s3")
        self.sqs: Any = self._client("sqs")

    # --- the server ------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def environment(self) -> Mapping[str, str]:
        """Credentials, and that nothing is looked up in this machine's own files."""
        return ENVIRONMENT

    def start(self) -> None:
        self._server = make_server(
            "127.0.0.1", self._port, self._answer, threaded=True, request_handler=_Silent
        )
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Connections are refused from now on; what is stored stays."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    def close(self) -> None:
        self.s3.close()
        self.sqs.close()
        self.stop()

    def __enter__(self) -> "ObjectStore":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def reset(self) -> None:
        """No buckets, no queues, no faults."""
        from moto.core.model_instances import reset_model_data
        from moto.s3.models import s3_backends
        from moto.sqs.models import sqs_backends

        if self._server is None:
            self.start()
        s3_backends.reset()
        sqs_backends.reset()
        reset_model_data()
        self._faults.clear()
        self.requests.clear()

    # --- what it holds ---------------------------------------------------------------------------

    def make_bucket(self, name: str, *, versioned: bool = False) -> None:
        self.s3.create_bucket(Bucket=name)
        if versioned:
            self.s3.put_bucket_versioning(
                Bucket=name, VersioningConfiguration={"Status": "Enabled"}
            )

    def put(self, bucket: str, key: str, content: bytes = b"Text.") -> None:
        self.s3.put_object(Bucket=bucket, Key=key, Body=content)

    def put_many(self, bucket: str, contents: Mapping[str, bytes]) -> None:
        """Not over HTTP, so in a fraction of a millisecond each; no queue is told."""
        from moto.s3.models import s3_backends

        backend = s3_backends[_ACCOUNT]["aws"]
        for key, content in contents.items():
            backend.put_object(bucket, key, content, disable_notification=True)

    def delete(self, bucket: str, *keys: str) -> None:
        """In a versioned bucket this only adds a delete marker, and moto tells no queue of it."""
        for key in keys:
            self.s3.delete_object(Bucket=bucket, Key=key)

    def settings(self, bucket: str, **others: Any) -> S3Settings:
        return S3Settings(bucket, endpoint_url=self.url, **others)

    # --- queues ----------------------------------------------------------------------------------

    def make_queue(self, name: str, *, redrive_to: str | None = None, max_receive: int = 2) -> str:
        """Its URL; `redrive_to` is the name of a queue, made too, that gets what nobody deletes."""
        attributes = {"VisibilityTimeout": "30"}
        if redrive_to is not None:
            arn = self._arn(self.make_queue(redrive_to))
            policy = {"deadLetterTargetArn": arn, "maxReceiveCount": max_receive}
            attributes["RedrivePolicy"] = json.dumps(policy)
        made = self.sqs.create_queue(QueueName=name, Attributes=attributes)
        return str(made["QueueUrl"])

    def notify(self, bucket: str, queue_url: str) -> None:
        """From now on the queue is told of what happens in the bucket; first comes a test event."""
        events = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
        self.s3.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={
                "QueueConfigurations": [{"QueueArn": self._arn(queue_url), "Events": events}]
            },
        )

    def send(self, queue_url: str, body: str | Mapping[str, Any]) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        self.sqs.send_message(QueueUrl=queue_url, MessageBody=text)

    def waiting(self, queue_url: str) -> int:
        """How many messages nobody has deleted, those that were received among them."""
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        told = self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=list(names))
        return sum(int(told["Attributes"][name]) for name in names)

    def _arn(self, queue_url: str) -> str:
        told = self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
        return str(told["Attributes"]["QueueArn"])

    # --- faults ----------------------------------------------------------------------------------

    def fail(
        self,
        status: int | None,
        *,
        code: str = "InternalError",
        body: bytes | None = None,
        cut: int = 0,
        delay_s: float = 0.0,
        only: str = "",
        after: int = 0,
        times: int = 1_000_000,
    ) -> None:
        """Answers requests whose line holds `only` with an error, after letting `after` pass.

        With `delay_s` an answer comes late, with `status` 200 and a `body` it is another one; it
        ends `cut` bytes before the length that it tells.
        """
        self._faults.append(_Fault(status, code, body, cut, delay_s, only, after, times))

    def heal(self) -> None:
        self._faults.clear()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        query = environ.get("QUERY_STRING", "")
        path = environ.get("RAW_URI", environ["PATH_INFO"]).partition("?")[0]
        line = f"{environ['REQUEST_METHOD']} {path}{'?' + query if query else ''}"
        self.requests.append(line)
        fault = self._due(line)
        if fault is None:
            answer: Iterable[bytes] = self._app(environ, start_response)
            return answer
        time.sleep(fault.delay_s)
        if fault.status is None:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionError
        body = _error(fault.code) if fault.body is None else fault.body
        headers = [
            ("Content-Type", "application/xml"),
            ("Content-Length", str(len(body) + fault.cut)),
        ]
        start_response(f"{fault.status} Fault", headers)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def _due(self, line: str) -> _Fault | None:
        for fault in self._faults:
            if fault.only not in line or fault.times == 0:
                continue
            if fault.after:
                fault.after -= 1
                continue
            fault.times -= 1
            return fault
        return None

    def _client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
        )


class _Silent(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - its name above
        pass


def _error(code: str) -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code>'
        f"<Message>A fault of the test.</Message></Error>"
    ).encode()


# --- what Amazon sends to a queue ------------------------------------------------------------------


def event(
    bucket: str, key: str, name: str = "ObjectCreated:Put", *, sequencer: str = "0055AED6DCD90281E5"
) -> dict[str, Any]:
    """The message that S3 sends; in a versioned bucket a deletion is a `DeleteMarkerCreated`."""
    removed = name.startswith(("ObjectRemoved", "LifecycleExpiration"))
    about = {} if removed else {"size": 5, "eTag": "d41d8cd98f00b204e9800998ecf8427e"}
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": REGION,
        "eventTime": "2025-01-01T00:00:00.000Z",
        "eventName": name,
        "userIdentity": {"principalId": "AWS:AIDAEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "x"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "documents",
            "bucket": {
                "name": bucket,
                "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                "arn": f"arn:aws:s3:::{bucket}",
            },
            "object": {"key": quote_plus(key, safe="/"), **about, "sequencer": sequencer},
        },
    }
    return {"Records": [record]}


def through_sns(message: Mapping[str, Any]) -> dict[str, Any]:
    """The envelope in which a topic hands a message to a queue, where it is not sent raw."""
    return {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": f"arn:aws:sns:{REGION}:{_ACCOUNT}:documents",
        "Subject": "Amazon S3 Notification",
        "Message": json.dumps(message),
        "Timestamp": "2025-01-01T00:00:00.000Z",
        "SignatureVersion": "1",
        "Signature": "EXAMPLE",
        "SigningCertURL": "https://sns.example/SimpleNotificationService.pem",
        "UnsubscribeURL": "https://sns.example/?Action=Unsubscribe",
    }


def through_event_bridge(bucket: str, key: str, what: str = "Object Created") -> dict[str, Any]:
    """The form of EventBridge: its keys are not encoded."""
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": what,
        "source": "aws.s3",
        "account": _ACCOUNT,
        "time": "2025-01-01T00:00:00Z",
        "region": REGION,
        "resources": [f"arn:aws:s3:::{bucket}"],
        "detail": {
            "version": "0",
            "bucket": {"name": bucket},
            "object": {"key": key, "sequencer": "617f08299329d189"},
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": _ACCOUNT,
            "reason": "PutObject" if what == "Object Created" else "DeleteObject",
        },
    }
