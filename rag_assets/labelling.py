"""Golden sets of a corpus: checked, exported, imported, generated, and mined from feedback."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from rag_assets import wiring
from rag_assets.adapters.prices import Prices
from rag_assets.adapters.system_clock import SystemClock
from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.generating import Generated, written
from rag_assets.evaluation.golden_set import GoldenSet, LabelledQuestion, read_golden_set
from rag_assets.evaluation.golden_set.beir import written_corpus, written_folder
from rag_assets.evaluation.golden_set.checking import Checked, checked
from rag_assets.evaluation.golden_set.writing import by_place, by_quote
from rag_assets.evaluation.golden_set.yaml_file import written_yaml
from rag_assets.evaluation.known_items import known_items
from rag_assets.evaluation.mining import Mined, mined
from rag_assets.model import Draft, RunIdentity
from rag_assets.publishing import SAMPLED_DOCUMENTS, Publisher

BY_HAND = ("Read each question before you rely on it: nobody has yet.",)


@dataclass(frozen=True, slots=True)
class ChatModel:
    """The model that writes questions, and what may be spent on it."""

    name: str
    """`openai:MODEL`."""
    base_url: str | None = None
    api_key_env: str | None = None
    prices: Path | None = None
    max_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Labelling:
    """One corpus with its documents as they are stored."""

    publisher: Publisher

    @property
    def corpus(self) -> str:
        return self.publisher.corpus.name

    def texts(self, golden_set: GoldenSet) -> dict[str, str]:
        """The documents that its labels are of."""
        return self.publisher.texts(golden_set.doc_ids)

    def check(self, golden_set: GoldenSet) -> Checked:
        """What is to be mended, and how small a difference the questions can show."""
        stores, settings = self.publisher.stores, self.publisher.corpus.evaluation
        return checked(
            golden_set,
            self.texts(golden_set),
            every_text=lambda: stores.documents.every_text(self.corpus),
            scored=stores.evaluations.of_golden_set(self.corpus, golden_set.identity),
            tolerance=settings.tolerance,
            metrics=settings.gate,
        )

    def export(self, to: Path, *, beir: bool, documents: bool, replace: bool) -> GoldenSet:
        """The golden set of the corpus as a YAML file, or as a folder."""
        golden_set = self.publisher.golden_set()
        texts = self.texts(golden_set)
        if not beir:
            content = written_yaml(by_quote(golden_set, texts), comments=_about(golden_set))
            write_files({to: content}, replace=replace)
            return golden_set
        files = written_folder(by_place(golden_set, texts))
        write_files({to / name: content for name, content in files.items()}, replace=replace)
        if documents:
            every = self.publisher.stores.documents.every_document(self.corpus)
            write_files({to / "corpus.jsonl": written_corpus(every)}, replace=replace)
        return golden_set

    def import_(self, path: Path, to: Path, *, replace: bool) -> GoldenSet:
        """Another layout as a YAML file, once every label fits a document."""
        golden_set = read_golden_set(path)
        texts = self.texts(golden_set)
        golden_set.resolve(texts)
        write_files({to: written_yaml(by_quote(golden_set, texts))}, replace=replace)
        return golden_set

    def generate_offline(self, to: Path, questions: int, *, replace: bool) -> GoldenSet:
        """Of headings and of the rarest sentences."""
        refuse_existing([to], replace=replace)
        documents = self.publisher.sample(SAMPLED_DOCUMENTS)
        golden_set = known_items(documents, limit=questions)
        self._write(golden_set, to, _about(golden_set), replace=replace)
        return golden_set

    def generate(
        self,
        to: Path,
        questions: int,
        model: ChatModel,
        run: RunIdentity,
        *,
        replace: bool,
        told: Callable[[int], None],
    ) -> Generated:
        """By a chat model. What was written until something failed is kept, and so is its cost.

        Each question is in a file beside `to` as soon as it is written; that file stays where this
        is interrupted.
        """
        refuse_existing([to, part_of(to)], replace=replace)
        writer = wiring.question_writer(
            model.name, base_url=model.base_url, api_key_env=model.api_key_env
        )
        price = Prices.read(model.prices).of_chat(writer.identity)
        if model.max_usd is not None and price is None:
            raise ConfigurationError(
                f"What {writer.identity} costs is not known, so no limit can be kept. State its"
                f" price in the file of RAG_ASSETS_PRICES, as in '{writer.identity}: 0.02', or"
                " leave --max-cost out."
            )

        def paid(draft: Draft) -> None:
            usd = price.of(draft.used) if price else None
            self.publisher.stores.evaluations.add_cost_of_questions(
                self.corpus, writer.identity, draft.used, usd, run
            )

        documents = self.publisher.sample(max(SAMPLED_DOCUMENTS, questions))
        about = (f"Written by {writer.identity}.", *BY_HAND)
        with closing(writer), _kept_beside(to, about) as keep:
            return written(
                documents,
                questions,
                writer=writer,
                clock=SystemClock(),
                price=price,
                max_usd=model.max_usd,
                paid=paid,
                kept=keep,
                told=told,
            )

    def mine(self, to: Path, *, since: datetime | None, replace: bool) -> Mined:
        """What people have said of passages, as labelled questions."""
        refuse_existing([to], replace=replace)
        stores = self.publisher.stores
        feedback = stores.feedback.given(self.corpus, since=since)
        doc_ids = {each.doc_id for each in feedback if each.doc_id}
        found = mined(feedback, self.publisher.texts(doc_ids))
        if found.questions:
            about = (f"From what people have said of passages of {self.corpus}.", *BY_HAND)
            write_files({to: written_yaml(found.questions, comments=about)}, replace=replace)
        return found

    def _write(
        self, golden_set: GoldenSet, to: Path, about: tuple[str, ...], *, replace: bool
    ) -> None:
        questions = by_quote(golden_set, self.texts(golden_set))
        if not questions:
            raise ConfigurationError(
                f"The documents of {self.corpus} are too few or too short to make questions of."
            )
        write_files({to: written_yaml(questions, comments=about)}, replace=replace)


def _about(golden_set: GoldenSet) -> tuple[str, ...]:
    return ("Made from the documents themselves.", *BY_HAND) if golden_set.generated else ()


def part_of(to: Path) -> Path:
    """Where questions are that were paid for, until all of them are written."""
    return to.with_name(f"{to.name}.part")


@contextmanager
def _kept_beside(to: Path, about: tuple[str, ...]) -> Iterator[Callable[[LabelledQuestion], None]]:
    """Refuses a target that cannot be written at once, before anything is paid for."""
    part, rows = part_of(to), 0
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{to} cannot be written: {error.strerror}.") from error

    def keep(question: LabelledQuestion) -> None:
        nonlocal rows
        text = written_yaml([question], comments=() if rows else about)
        file.write(text.removeprefix("questions:\n") if rows else text)
        file.flush()
        rows += 1

    try:
        with file:
            yield keep
        if rows:
            part.replace(to)
    finally:
        if not rows:
            part.unlink(missing_ok=True)


def write_files(files: dict[Path, str], *, replace: bool) -> None:
    """All of them; none, if one is there already and is to stay."""
    refuse_existing(list(files), replace=replace)
    for file, content in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")


def refuse_existing(files: list[Path], *, replace: bool) -> None:
    """Before anything is paid for: labels that somebody has corrected are not to be lost."""
    there = [str(file) for file in files if file.exists()]
    if there and not replace:
        raise ConfigurationError(
            f"{', '.join(there)}: this is there already. Choose another name, or replace it with"
            " --replace."
        )
