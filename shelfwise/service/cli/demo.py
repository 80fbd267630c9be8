"""The demo store: `demo` generates it, builds its index, runs a few searches, and prints what to try next."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from typer import Option

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.indexer.events.importer import import_events
from shelfwise.indexer.pictures import NO_CHANGE, PictureOptions
from shelfwise.retrieval.errors import StoreForeignError
from shelfwise.retrieval.events.privacy import utc_now
from shelfwise.service.cli.options import command
from shelfwise.service.cli.output import TerminalProgress, say
from shelfwise.service.cli.query import show_page
from shelfwise.service.cli.rebuild import show_rebuild
from shelfwise.service.cli.serve import serve as serve_command
from shelfwise.service.demo import DemoFiles, write_demo_store
from shelfwise.service.demo.catalog import PICTURE_MODEL
from shelfwise.service.demo.shoppers import WEEKS
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.event_log import EventLog, rejects_path
from shelfwise.service.settings import Settings, cache_folder, load_settings
from shelfwise.service.training.derived_tables import DerivedTablesManager

_SHOWN_CLASSES = (
    ("head", "en"),
    ("synonym", "en"),
    ("misspelling", "en"),
    ("attribute", "en"),
    ("use_case", "en"),
    ("identifier", "en"),
    ("head", "zh"),
    ("synonym", "zh"),
)


@command("demo --folder demo-store", json=False)
def demo(
    folder: Annotated[Path, Option(help="Folder of the demo store.")] = Path("demo-store"),
    products: Annotated[int, Option(help="Number of products to generate.", min=100, max=1_000_000)] = 2_000,
    seed: Annotated[int, Option(help="Seed of the generated store.")] = 7,
    sessions: Annotated[
        int, Option(help="Number of shopper sessions to generate, of some 25 events each.", min=0, max=1_000_000)
    ] = 8_000,
    pictures: Annotated[
        bool, Option("--pictures", help="Draw a picture of each product, and index the pictures with a small model.")
    ] = False,
    serve: Annotated[bool, Option("--serve", help="Then serve it, with a store page in the browser.")] = False,
) -> None:
    """Generate a small, realistic store, English and Chinese, build its index and search it. A rerun takes seconds."""
    with TerminalProgress() as progress:
        progress.begin("demo store", None, "")
        day = utc_now().date() - timedelta(weeks=WEEKS)
        files = write_demo_store(folder, seed=seed, products=products, sessions=sessions, day=day, pictures=pictures)
        progress.end(f"{products:,} products in {folder}")
        model = PictureOptions(str(PICTURE_MODEL), folder) if pictures else NO_CHANGE
        options = RebuildOptions((str(files.products),), cache_folder(), synonyms=files.synonyms, pictures=model)
        report = rebuild(folder / "index", options, progress)
        try:
            settings = Settings(backend="embedded", events=load_settings().events)
            with EventLog.open(folder / "index", settings) as log:
                rejects = rejects_path(log.folder, utc_now())
                import_events([str(files.events)], log.store, log.intake, rejected=rejects, progress=progress)
                DerivedTablesManager(folder / "index", log, settings.events, progress=progress).refresh()
        except StoreForeignError as error:
            message = f"{folder} has events of another version of Shelfwise; delete it, or name another folder"
            raise StoreForeignError(message) from error
    show_rebuild(report, folder / "index")
    with SearchEngine.open(folder / "index") as engine:
        for label, query in _examples(files):
            say("── ", (query, "bold"), f"  ({label})")
            show_page(engine.search(query, size=5))
        query = "gift for a gardener"
        say("── ", (query, "bold"), "  (with a filter and facets)")
        filtered = engine.search(query, size=5, filters="price < 30 AND availability = in_stock", facets=["category"])
        show_page(filtered)
    say(_next_steps(folder, files))
    if serve:
        serve_command(folder / "index")


def _examples(files: DemoFiles) -> Iterator[tuple[str, str]]:
    """The first development query of each shown class."""
    with files.queries.open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))
    for name, language in _SHOWN_CLASSES:
        for row in rows:
            if (row["class"], row["language"], row["split"]) == (name, language, "dev"):
                yield f"{name.replace('_', ' ')}, {language}", row["query"]
                break


def _next_steps(folder: Path, files: DemoFiles) -> str:
    index = folder / "index"
    by_looks = f'search {index} "striped t-shirt"' if files.looks_dev.exists() else ""
    commands = (
        ("search by looks", by_looks),
        ("search it", f'search {index} "12v drill" --filter "price < 150" --facet brand'),
        ("see the scores", f'search {index} "12v drill" --explain'),
        ("check its feed", f"check {files.products} --html report.html"),
        ("change a price", f"index patch {index} d000001 price=9.99"),
        ("measure it", f"evaluate {index} {files.judgments_test} --stage bm25,dense,merged"),
        ("report on shoppers", f"events report {index}"),
        ("learn from it", f"learn {index}"),
        ("time it", f"bench latency {index} --judgments {files.judgments_dev}"),
        ("use your own", "rebuild store YOUR-CATALOG.jsonl"),
        ("open it", f"serve {index}"),
    )
    path = Path(sys.argv[0])
    program = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    if shutil.which(path.name) == str(path):
        program = path.name
    lines = "\n".join(f"  {purpose:<18} {program} {command}" for purpose, command in commands if command)
    page = "then open http://127.0.0.1:8080/ in a browser, and the link to the admin page that it prints"
    return f"\nThe demo store is in {folder}. Next:\n{lines}\n{'':<21}{page}"
