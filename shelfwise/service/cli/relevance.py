"""Relevance settings, for `curate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import msgspec
from typer import Argument

from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.cli.options import check_index
from shelfwise.service.cli.output import emit, emit_revision, say, show_history, show_moves, show_notices, write_json
from shelfwise.service.cli.search import PageOptions, open_engine
from shelfwise.service.curation.relevance import (
    DEFAULT_RELEVANCE,
    Relevance,
    RelevanceChange,
    RelevanceStore,
    read_relevance,
)
from shelfwise.service.engine.editors import Preview

SettingsArgument = Annotated[Path, Argument(help="A JSON or TOML file: docs/rules.md.", metavar="FILE")]


def show_relevance(index: Path, _name: str) -> None:
    """Prints the settings as JSON for put, and on standard error whether field weights wait for a rebuild."""
    relevance = _store(index).current()
    write_json(msgspec.json.format(msgspec.json.encode(relevance)))
    weights = Store(index).find_serving().manifest.weights
    if weights != relevance.fields:
        show_notices([f"fields takes effect with the next rebuild; until then searches use {_text(weights)}"])


def put_relevance(index: Path, file: Path, by: str) -> None:
    """Replaces the settings with those of a file. Omitted settings get their defaults. Engines follow at once."""
    relevance = read_relevance(file)
    with open_engine(index, models=False) as engine:
        before = engine.relevance.revision
        after = engine.relevance.put(relevance, who=by)
    emit_revision(before, after, "the settings are now those of the file", undo=_undo(index))


def relevance_history(index: Path, _name: str, limit: int) -> None:
    """Prints the history of changes, newest first."""
    emit(_store(index).history(limit=limit), show_history, "document", _difference)


def restore_relevance(index: Path, revision: int, by: str) -> None:
    """Restores the settings of a revision, as a new change that can be undone."""
    store = _store(index)
    before = store.revision()
    after = store.restore(revision, who=by)
    emit_revision(before, after, f"the settings are now those of revision {revision}", undo=_undo(index))


def preview_relevance(index: Path, query: str, file: Path | None, delete: Sequence[str], which: PageOptions) -> None:
    """Prints the effect of other settings on a page of a search; raises SettingError without a file."""
    if file is None or delete:
        raise SettingError(
            "curate preview relevance needs a file of settings, and deletes nothing; name the file alone"
        )
    relevance = read_relevance(file)
    with open_engine(index) as engine:
        emit(engine.relevance.preview(query, relevance, **asdict(which)), _show_preview)


def _undo(index: Path) -> str:
    return f"shelfwise curate restore relevance {index}"


def _store(index: Path) -> RelevanceStore:
    check_index(index)
    return RelevanceStore(index)


def _difference(change: RelevanceChange) -> str:
    was, became = (each or DEFAULT_RELEVANCE for each in (change.before, change.after))
    pairs = ((name, getattr(was, name), getattr(became, name)) for name in Relevance.__struct_fields__)
    changed = [f"{name} {_text(before)} → {_text(after)}" for name, before, after in pairs if before != after]
    return "; ".join(changed) or "defaults"


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _show_preview(preview: Preview) -> None:
    show_moves(preview)
    say(f"{preview.before.total:,} products before, {preview.after.total:,} after")
    searched = [
        f"{page.suggestion!r} {'is searched for' if page.corrected else 'is offered'}" if page.suggestion else "none"
        for page in (preview.before, preview.after)
    ]
    if len(set(searched)) > 1:
        say(f"correction: {searched[0]} before, {searched[1]} after")
