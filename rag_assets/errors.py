"""Every error a user can meet.

    RagAssetsError
    ├── ConfigurationError        settings or a defs.yaml that cannot work
    ├── SourceError               the source cannot be listed or read
    │   └── EmptySourceError      it lists nothing, though it had documents
    ├── UnreadableDocumentError   one document has no text to read; it becomes a dead letter
    ├── EmbeddingError            an embedding model refused or answered wrongly
    ├── DatabaseError             the database is not there, too old, or refuses
    │   ├── NotMigratedError      its schema is not the one this code works with
    │   └── StaleRunError         another run has recorded this bucket since we looked
    ├── ServerError               the embedded server or a service cannot be started or stopped
    ├── QuestionError             a question that cannot be searched for, such as an empty one
    ├── NotPublishedError         nothing to read yet
    ├── NotReadyError             a generation cannot be scored or published yet
    └── MissingExtraError         an optional package is not installed

A message says what happened, to which thing, and what to do next.
"""


class RagAssetsError(Exception):
    """What went wrong, in words for the person who must act."""


class ConfigurationError(RagAssetsError):
    pass


class SourceError(RagAssetsError):
    pass


class EmptySourceError(SourceError):
    pass


class UnreadableDocumentError(RagAssetsError):
    pass


class EmbeddingError(RagAssetsError):
    pass


class DatabaseError(RagAssetsError):
    pass


class NotMigratedError(DatabaseError):
    pass


class StaleRunError(DatabaseError):
    pass


class ServerError(RagAssetsError):
    pass


class QuestionError(RagAssetsError):
    pass


class NotPublishedError(RagAssetsError):
    pass


class NotReadyError(RagAssetsError):
    pass


class MissingExtraError(RagAssetsError):
    pass
