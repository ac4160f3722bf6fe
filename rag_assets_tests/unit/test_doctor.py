from pathlib import Path

from rag_assets.errors import DatabaseError
from rag_assets.operations.doctor import Finding, disk_space, examine, home_folder


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
