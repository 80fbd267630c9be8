"""Studies: measurements that informed a decision, run as `python -m shelfwise.benchmarks.studies.NAME`; not in the
wheel."""

from __future__ import annotations

from collections.abc import Callable

import typer

from shelfwise.service.cli.main import run


def study_app(*commands: Callable[..., None]) -> typer.Typer:
    """A program of a study's command, or of several by name."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    for command in commands:
        app.command(epilog=f"Example: python -m shelfwise.benchmarks.studies.{command.example}")(command)  # type: ignore[attr-defined]
    return app


def run_study(*commands: Callable[..., None]) -> None:
    """Runs a study."""
    run(study_app(*commands))
