"""Keeps what people say of answers and passages; nobody speaks of what they may not see."""

from datetime import datetime
from typing import Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect
from rag_assets.errors import NotPublishedError, UnknownDocumentError
from rag_assets.model import Feedback, Generation


class PostgresFeedback:
    """Looks passages up with a reader's rights, and writes with the writer's."""

    def __init__(self, url: str, *, reader_url: str) -> None:
        self._url = url
        self._reader_url = reader_url

    def give(
        self,
        generation: Generation,
        question: str,
        *,
        helpful: bool,
        passage: tuple[str, int] | None,
        principals: tuple[str, ...],
    ) -> Feedback:
        """Of a passage by document and number, or of the answer as a whole; returns what is kept.

        The words of the passage are kept too, so that a later version of it is recognised.
        """
        which = {
            "corpus": generation.corpus,
            "generation": generation.number,
            "question": question,
            "helpful": helpful,
        }
        found = self._passage(generation, passage, principals) if passage else None
        name = "give_on_passage" if found else "give"
        with connect(self._url) as connection:
            row = connection.execute(_query(name), which | (found or {})).fetchone()
        if row is None:  # erased, or gone, in this moment
            raise _not_seen(generation, *(passage or ("", 0)))
        return Feedback(question, helpful, row["given_at"], generation.number, **(found or {}))

    def given(self, corpus: str, *, since: datetime | None = None) -> list[Feedback]:
        """Oldest first. It holds words of documents, whoever may see these."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("given"), {"corpus": corpus, "since": since})
            return [Feedback(**row) for row in rows]

    def _passage(
        self, generation: Generation, passage: tuple[str, int], principals: tuple[str, ...]
    ) -> dict[str, Any]:
        from psycopg import errors

        doc_id, number = passage
        query = queries.of_generation(_query("passage"), generation.number)
        with connect(self._reader_url) as connection, connection.transaction():
            connection.execute(_query("speak_as"), {"principals": list(principals)})
            try:
                row = connection.execute(query, {"doc_id": doc_id, "ord": number}).fetchone()
            except errors.UndefinedTable as error:
                raise NotPublishedError(
                    f"Generation {generation.number} of {generation.corpus!r} has just been"
                    " dropped. Search again: its passages may have other numbers now."
                ) from error
        if row is None:
            raise _not_seen(generation, doc_id, number)
        place = {"start": row["start_char"], "end": row["end_char"], "quote": row["text"]}
        return {"doc_id": doc_id} | place


def _not_seen(generation: Generation, doc_id: str, number: int) -> UnknownDocumentError:
    return UnknownDocumentError(
        f"Generation {generation.number} of {generation.corpus} has no passage {doc_id}#{number}"
        " that you may see. `rag-assets search` shows those it has."
    )


def _query(name: str) -> LiteralString:
    return queries.load("feedback")[name]
