"""The server, the schema, and what can be said of the whole installation."""

from dataclasses import asdict
from pathlib import Path

import click

from rag_assets.cli.shape import FAILED, json_option, main, print_json
from rag_assets.settings import Settings


@main.command()
@click.option("--database-only", is_flag=True, help="Leave the Dagster UI and daemon out.")
def up(*, database_only: bool) -> None:
    """Start the database and Dagster in the background.

    Where they run already, nothing happens to them. The database is brought to the schema of this
    version. The Dagster UI listens on 127.0.0.1, on the port that RAG_ASSETS_PORT names.
    """
    from rag_assets import installation, printing
    from rag_assets.adapters.postgres.connections import where

    settings = Settings.from_environment()
    with printing.Doing("starting the database") as doing:
        urls = installation.start_database(settings, doing.now)
    click.echo(f"The database is up: {where(urls.reader)}")
    if not database_only:
        installation.valid_corpora(settings)
        dagster = installation.dagster_of(settings)
        with printing.Doing("starting the Dagster UI and daemon"):
            if dagster.has_history and not dagster.status().pids:
                from rag_assets import materializing  # it costs seconds, and is seldom needed here

                materializing.end_lost_runs(dagster.home)
            dagster.start()
        click.echo(f"The Dagster UI is up: {dagster.status().url}")
        click.echo("`rag-assets down` (or `make down`) stops all of it.")


@main.command()
def down() -> None:
    """Stop what `up` started, and nothing else."""
    from rag_assets import installation, printing

    with printing.Doing("stopping"):
        stopped = installation.stop_everything(Settings.from_environment())
    click.echo(f"Stopped {' and '.join(stopped)}." if stopped else "Nothing was running.")


@main.command()
@json_option
def status(*, as_json: bool) -> None:
    """Say what runs and what each corpus holds.

    Exit code 1 if the database does not answer.
    """
    from rag_assets import installation, printing

    found = installation.standing(Settings.from_environment())
    print_json(asdict(found)) if as_json else printing.standing(found)
    if not found.database_running:
        raise SystemExit(FAILED)


@main.command()
@json_option
def doctor(*, as_json: bool) -> None:
    """Examine the installation; say how to mend it.

    Exit code 1 if anything is wrong.
    """
    from rag_assets import installation, printing

    findings = installation.examined(Settings.from_environment())
    print_json([asdict(each) for each in findings]) if as_json else printing.findings(findings)
    if not all(each.ok for each in findings):
        raise SystemExit(FAILED)


@main.command()
def migrate() -> None:
    """Bring the database to the schema of this version.

    `up` does it too.
    """
    from rag_assets import wiring
    from rag_assets.adapters.postgres import migrations

    applied = migrations.migrate(wiring.database_urls(Settings.from_environment()))
    for migration in applied:
        click.echo(f"Applied migration {migration.version} ({migration.name}).")
    if not applied:
        click.echo("The schema is current; there was nothing to apply.")


@main.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(*, file: Path) -> None:
    """Write everything in the database to FILE."""
    from rag_assets import installation

    size = installation.back_up(Settings.from_environment(), file.resolve())
    click.echo(f"Wrote {file} ({size / 1e6:.1f} MB).")


@main.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Replace the corpora that the database holds.")
def restore(*, file: Path, replace: bool) -> None:
    """Bring the database back to what FILE holds.

    All of it, or nothing: if it fails, the database is as it was.
    """
    from rag_assets import installation

    installation.restore(Settings.from_environment(), file.resolve(), replace=replace)
    click.echo(f"Restored {file}.")
