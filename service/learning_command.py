"""`shelfwise learn`: from the store of events to a ranker with a verdict, in one command that may run every night."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.options import IndexOption, JsonOption, SettingsOption, cache_folder, check_index
from service.training_commands import ClickWay, click_options

if TYPE_CHECKING:
    from service.learning.learn import LearnOptions
    from service.learning.report import LearnReport
    from service.training.click_material import FromClicks


def learn(
    index: IndexOption = Path("store"),
    if_new: Annotated[
        int, typer.Option("--if-new", help="Only if so many events came since the last time.", min=0)
    ] = 0,
    way: Annotated[ClickWay, typer.Option(help="What is made of the place that a product stood at.")] = "debiased",
    queries: Annotated[
        int, typer.Option(help="How many queries to learn from the clicks of.", min=200, max=1_000_000)
    ] = 20_000,
    epochs: Annotated[int, typer.Option(help="The most epochs; it stops early.", min=1, max=100)] = 6,
    seed: Annotated[int, typer.Option(help="Another one makes other weights.", min=0, max=1_000_000)] = 0,
    *,
    towers: Annotated[
        bool,
        typer.Option("--towers", help="Train the encoder first, and encode all products anew where it is better."),
    ] = False,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn from what shoppers did: clean the events, train the ranker on them and what recommends, judge both, and
    publish what is better. A report says what each step did; what was interrupted goes on where it was."""
    if not if_new:
        check_index(index)
    import msgspec

    from service.learning.learn import learn as run
    from service.learning.learn import page_path
    from service.learning.remembered import last_learned, new_events, stored_days
    from service.learning.view import show_learned, show_waiting
    from service.settings import load_settings
    from service.terminal import ProgressLines, write_json

    loaded = load_settings(settings)
    if if_new and (new := new_events(stored_days(index, loaded), last_learned(index))) < if_new:
        waiting = {"decision": "not enough new events", "new_events": new, "needed": if_new}
        write_json(msgspec.json.encode(waiting)) if as_json else show_waiting(new, if_new)
        return
    reports: list[LearnReport] = []
    try:
        with ProgressLines() as progress:
            run(
                index,
                loaded,
                _options(click_options(way, queries, epochs, seed), seed, towers),
                progress,
                reports.append,
            )
    finally:
        for report in reports:
            write_json(report.to_json()) if as_json else show_learned(report, page_path(index), index)


def _options(ranker: FromClicks, seed: int, towers: bool) -> LearnOptions:
    from rerank.shoppers.training import ShopperTowerOptions
    from service.learning.learn import LearnOptions

    options = LearnOptions(ranker, ShopperTowerOptions(seed=seed))
    if not towers:
        return options
    from rerank.towers.options import TowerOptions
    from service.training.towers import TowersRequest

    return replace(options, towers=TowersRequest(cache=cache_folder(), options=TowerOptions(seed=seed)))


EXAMPLES = ((learn, "Example: shelfwise learn --index store --if-new 5000"),)
