from pathlib import Path

import pytest

from rag_assets.errors import ConfigurationError, DatabaseError
from rag_assets.model import AlertSettings, Corpus, LocalFilesSettings
from rag_assets.operations.doctor import (
    Finding,
    alert_variables,
    disk_space,
    examine,
    home_folder,
)


def corpus(name: str, alerts: AlertSettings) -> Corpus:
    return Corpus(name, LocalFilesSettings("documents"), alerts=alerts)


def test_a_variable_that_an_alert_needs_and_nobody_has_set_is_told_with_its_corpora(
    tmp_path: Path,
) -> None:
    both = AlertSettings(slack_webhook_env="SLACK", webhook_url_env="HOOK", webhook_secret_env="S")
    corpora = [
        corpus("notes", both),
        corpus("quiet", AlertSettings()),
        corpus("letters", AlertSettings(slack_webhook_env="SLACK")),
    ]
    with pytest.raises(ConfigurationError) as refused:
        alert_variables(corpora, {"HOOK": "https://hook.example.com/canary", "SLACK": " "})
    assert "not set here: SLACK (of notes, letters); S (of notes). Set each" in str(refused.value)

    address, there = tmp_path / "slack", {"HOOK": "https://hook.example.com", "S": "s"}
    with pytest.raises(ConfigurationError, match="SLACK_FILE"):
        alert_variables(corpora, {**there, "SLACK_FILE": str(address)})
    address.write_text("https://hooks.example.com/canary\n")
    said = alert_variables(corpora, {**there, "SLACK_FILE": str(address)})
    assert said.startswith("all variables are set for notes, letters;")


def test_a_private_folder_of_our_own_is_well(tmp_path: Path) -> None:
    assert home_folder(tmp_path).ok


def test_a_folder_that_is_not_there_yet_is_well_if_it_can_be_made(tmp_path: Path) -> None:
    finding = home_folder(tmp_path / "new" / "home")
    assert finding.ok
    assert "will be made" in finding.detail
    assert not (tmp_path / "new").exists()


def test_a_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not home_folder(tmp_path / "file" / "home").ok


def test_a_folder_that_others_may_enter_is_told_with_the_command_that_closes_it(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o750)
    finding = home_folder(tmp_path)
    assert not finding.ok
    assert "mode 750" in finding.detail
    assert finding.remedy == f"Run: chmod go-rwx '{tmp_path}'"


def test_a_disk_with_too_little_room_is_told(tmp_path: Path) -> None:
    assert disk_space(tmp_path, 2 * 1024**3).ok
    assert not disk_space(tmp_path, 1024**3 - 1).ok


def test_what_a_look_raises_becomes_a_finding_and_the_next_look_is_taken(tmp_path: Path) -> None:
    message = "The schema is older than the code. Run `rag-assets migrate`."

    def refused() -> str:
        raise DatabaseError(message)

    findings = examine(tmp_path, {"schema": refused, "definitions": lambda: "1 corpus"})
    assert [finding.name for finding in findings[:3]] == ["Python", "home folder", "disk space"]
    assert findings[3:] == [
        Finding("schema", ok=False, detail=message),
        Finding("definitions", ok=True, detail="1 corpus"),
    ]
