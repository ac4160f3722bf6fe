"""What the checks of scores put on record, which no erasure reaches."""

import dagster as dg

from rag_assets.checks.eval_scores import shown_questions
from rag_assets.evaluation.golden_set import GoldenSet, LabelledQuestion
from rag_assets.model import QuestionChange


def test_words_of_questions_that_were_made_of_documents_stay_out_of_the_event_log() -> None:
    asked = (
        LabelledQuestion("made", "gutters autumn roof", tags=("generated",)),
        LabelledQuestion("written", "Who mends the roof?"),
    )
    changes = [
        QuestionChange(each.id, each.question, {"ndcg@10": 1.0}, {"ndcg@10": 0.5}) for each in asked
    ]
    table = shown_questions(changes, ["ndcg@10"], GoldenSet("golden.yaml", asked))["questions"]
    assert isinstance(table, dg.TableMetadataValue)
    words = {record.data["question_id"]: record.data["question"] for record in table.records}
    assert words == {"made": "", "written": "Who mends the roof?"}
    assert all(record.data["ndcg@10"] == "1.000 → 0.500" for record in table.records)
