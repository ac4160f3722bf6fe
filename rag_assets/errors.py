"""Every error a user can meet.

    RagAssetsError
    ├── ConfigurationError        settings or a defs.yaml that cannot work
    ├── SourceError               the source cannot be listed or read
    │   └── SourceDownError       whatever it is asked for: no one document is to blame
    ├── UnreadableDocumentError   one document has no text to read; it becomes a dead letter
    ├── EmbeddingError            an embedding model refused or answered wrongly
    │   ├── ProviderBusyError     not now: too many requests, broken, no answer in time; asked again
    │   ├── RejectedInputError    these texts, or one of them, cannot be embedded
    │   ├── ProviderRefusalError  it will answer nothing more: key, quota, model; a person must act
    │   ├── WrongAnswerError      an answer that cannot be right; asked again
    │   └── BudgetSpentError      the next request might cost more than somebody allowed
    ├── DatabaseError             the database is not there, too old, or refuses
    │   ├── NotMigratedError      its schema is not the one this code works with
    │   └── StaleRunError         another run has recorded this bucket since we looked
    ├── ServerError               the embedded server or a service cannot be started or stopped
    ├── AdoptionError             a table of embeddings cannot be taken over
    ├── AlertError                an alert could not be delivered
    ├── QuestionError             a question that cannot be searched for, such as an empty one
    ├── NotPublishedError         nothing to read yet
    ├── UnknownDocumentError      the corpus has no such document, or none with a dead letter
    ├── NotReadyError             a generation cannot be scored or published yet
    └── MissingExtraError         an optional package is not installed

A message says what happened, to which thing, and what to do next.
"""

from collections.abc import Mapping


class RagAssetsError(Exception):
    """What went wrong, in words for the person who must act."""


class ConfigurationError(RagAssetsError):
    pass


class SourceError(RagAssetsError):
    pass


class SourceDownError(SourceError):
    pass


class UnreadableDocumentError(RagAssetsError):
    pass


class EmbeddingError(RagAssetsError):
    pass


class ProviderBusyError(EmbeddingError):
    """`headers` are those of the answer, where there was one; `too_many` says it was a 429.

    `unanswered` is a request that may have been billed though nothing came back.
    """

    def __init__(
        self,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        too_many: bool = False,
        unanswered: bool = False,
    ) -> None:
        super().__init__(message)
        self.headers = {} if headers is None else headers
        self.too_many = too_many
        self.unanswered = unanswered


class RejectedInputError(EmbeddingError):
    pass


class ProviderRefusalError(EmbeddingError):
    pass


class WrongAnswerError(EmbeddingError):
    """`tokens` were billed for it."""

    def __init__(self, message: str, *, tokens: int = 0) -> None:
        super().__init__(message)
        self.tokens = tokens


class BudgetSpentError(EmbeddingError):
    pass


class DatabaseError(RagAssetsError):
    pass


class NotMigratedError(DatabaseError):
    pass


class StaleRunError(DatabaseError):
    pass


class ServerError(RagAssetsError):
    pass


class AdoptionError(RagAssetsError):
    pass


class AlertError(RagAssetsError):
    pass


class QuestionError(RagAssetsError):
    pass


class NotPublishedError(RagAssetsError):
    pass


class UnknownDocumentError(RagAssetsError):
    pass


class NotReadyError(RagAssetsError):
    pass


class OvertakenError(NotReadyError):
    """Somebody has published, gone back or cancelled while this was being judged."""


class MissingExtraError(RagAssetsError):
    pass
