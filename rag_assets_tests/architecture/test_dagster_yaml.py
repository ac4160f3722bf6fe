"""The two instances of Dagster that the repository describes can be opened and used."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg
import psycopg
import pytest
from dagster._core.instance import InstanceRef

from rag_assets.adapters.embedded_postgres import EmbeddedPostgres

ROOT = Path(__file__).parents[2]


@pytest.fixture
def storage_url(server: EmbeddedPostgres) -> Iterator[str]:
    """A database of Dagster's own, as deploy/dagster.yaml says to write its URL."""
    admin, own = server.admin_url(database="postgres"), server.admin_url(database="dagster")
    assert admin is not None
    assert own is not None
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("CREATE DATABASE dagster")
        yield urlsplit(own)._replace(scheme="postgresql+psycopg2").geturl()
        connection.execute("DROP DATABASE dagster WITH (FORCE)")


@dg.asset
def counted(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"rows": 3})


def rows_after_a_run(instance: dg.DagsterInstance) -> object:
    assert dg.materialize([counted], instance=instance).success
    event = instance.get_latest_materialization_event(dg.AssetKey("counted"))
    assert event is not None
    assert event.asset_materialization is not None
    return event.asset_materialization.metadata["rows"].value


def test_dagster_dev_finds_settings_that_need_no_server(tmp_path: Path) -> None:
    with dg.DagsterInstance.from_ref(
        InstanceRef.from_dir(str(tmp_path), config_dir=str(ROOT))
    ) as it:
        assert not it.telemetry_enabled
        assert rows_after_a_run(it) == 3


def test_a_team_keeps_its_runs_in_postgresql(
    storage_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", storage_url)
    settings = InstanceRef.from_dir(str(tmp_path), config_dir=str(ROOT / "deploy"))

    with dg.DagsterInstance.from_ref(settings) as instance:
        assert rows_after_a_run(instance) == 3
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert not (tmp_path / "history").exists()
