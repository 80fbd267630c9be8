"""The command that trains the shopper tower: `shelfwise train users`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.options import IndexOption, JsonOption, SettingsOption, check_index


def users(
    index: IndexOption = Path("store"),
    epochs: Annotated[int, typer.Option(help="The most epochs; it stops early.", min=1, max=1_000)] = 12,
    batch: Annotated[int, typer.Option(help="Windows of 50 acts a step.", min=2, max=4_096)] = 64,
    learning_rate: Annotated[float, typer.Option(help="At its height.", min=1e-6, max=0.1)] = 1e-3,
    seed: Annotated[int, typer.Option(help="Another one makes other weights.", min=0, max=1_000_000)] = 0,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train what recommends: from what shoppers did to what each did next. It serves if it is better than what does;
    what was interrupted goes on where it was."""
    check_index(index)
    import msgspec

    from rerank.shoppers.training import ShopperTowerOptions
    from service.settings import load_settings
    from service.terminal import ProgressLines, write_json
    from service.tower_views import show_judged
    from service.training.shopper_tower import train_users

    options = ShopperTowerOptions(epochs=epochs, batch=batch, learning_rate=learning_rate, seed=seed)
    with ProgressLines() as progress:
        trained = train_users(index, load_settings(settings), options, progress)
    tower = trained.tower
    document = {"tower": tower.name, "serves": trained.serves, "report": tower.report, "spec": tower.spec}
    write_json(msgspec.json.encode(document)) if as_json else show_judged(tower, serves=trained.serves)


EXAMPLES = ((users, "Example: shelfwise train users --index store"),)
