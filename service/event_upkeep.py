"""The commands that keep the events of a store in order: `shelfwise events forget, expire, rotate-key, move`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from retrieval.errors import SettingError
from service.event_commands import IndexDirectory, events, loaded_settings, opened, upkeep
from service.options import Backend, JsonOption, SettingsOption

__all__ = ["events"]


@events.command(epilog="Example: shelfwise events forget u1042 --index store")
def forget(
    shopper: Annotated[str, typer.Argument(help="The shopper, as the store's events name them.", metavar="USER")] = "",
    index: IndexDirectory = Path("store"),
    settings: SettingsOption = None,
    pseudonyms: Annotated[
        list[str] | None, typer.Option("--pseudonym", help="Instead of a name, what stands for it. Repeatable.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a shopper from the store of events and from every derived table, and prove that nothing is left."""
    import msgspec

    from service.event_views import show_forgotten
    from service.forgetting import forget_pseudonyms
    from service.terminal import write_json

    if bool(shopper) == bool(pseudonyms):
        raise typer.BadParameter("name the shopper", param_hint="USER")
    loaded = loaded_settings(settings)
    with upkeep(index, loaded) as (log, others, tables):
        meant = pseudonyms or log.intake.pseudonyms.all_of(shopper)
        done = forget_pseudonyms(log, meant, tables.purge, tables.rows_of, others)
    write_json(msgspec.json.encode(done)) if as_json else show_forgotten(done)
    if not done.is_complete:
        raise typer.Exit(1)


@events.command(epilog="Example: shelfwise events expire --index store --days 400")
def expire(
    index: IndexDirectory = Path("store"),
    days: Annotated[
        int | None, typer.Option(help="How old events may be; by default events.retention_days.", min=1, max=36_500)
    ] = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove events that are older than so many days, what was made of them, and keys that are not needed."""
    import msgspec

    from service.event_views import show_expired
    from service.retention import expire as run
    from service.terminal import write_json

    loaded = loaded_settings(settings)
    days = days or loaded.events.retention_days
    if days is None:
        raise SettingError("say how old events may be, with --days or the setting events.retention_days")
    with upkeep(index, loaded) as (log, others, tables):
        done = run(log, days, others)
        if done.events:
            tables.purge()
    write_json(msgspec.json.encode(done)) if as_json else show_expired(done)


@events.command("rotate-key", epilog="Example: shelfwise events rotate-key --index store")
def rotate_key(index: IndexDirectory = Path("store"), settings: SettingsOption = None) -> None:
    """Make a new key for pseudonyms: what a shopper does from now on is not linked with what they did before."""
    from service.event_views import show_rotation

    with opened(index, loaded_settings(settings)) as log:
        show_rotation(log.intake.pseudonyms.rotate(), log.intake.pseudonyms)


@events.command(epilog="Example: shelfwise events move --index store --to elasticsearch")
def move(
    target: Annotated[Backend, typer.Option("--to", help="Where the events are kept from then on.")],
    index: IndexDirectory = Path("store"),
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move all events between this machine and the cluster; nothing may record events meanwhile."""
    import msgspec

    from service.event_log import is_in_cluster, open_store
    from service.event_move import move_events
    from service.event_views import show_move
    from service.terminal import ProgressLines, write_json

    loaded = loaded_settings(settings)
    is_clustered = target is Backend.ELASTICSEARCH
    if is_in_cluster(index, loaded) != is_clustered:
        raise SettingError(
            f"events are recorded where the index is searched, which is not {target}: run first "
            f"shelfwise rebuild --index {index} --backend {target}"
        )
    with (
        closing(open_store(index, loaded, is_clustered=not is_clustered)) as source,
        closing(open_store(index, loaded, is_clustered=is_clustered)) as moved_to,
        ProgressLines() as progress,
    ):
        progress.begin("move", source.count(), "events")
        moved = move_events(source, moved_to, progress.advance)
        progress.end(f"{moved.moved:,} events")
    write_json(msgspec.json.encode(moved)) if as_json else show_move(moved, target)
