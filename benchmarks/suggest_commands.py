"""`shelfwise bench suggest`: suggestions while queries are typed, and typos corrected."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.options import IndexArgument, JsonOption

if TYPE_CHECKING:
    from benchmarks.suggesting import SuggestLatency, TypoFigures


def suggest(
    index: IndexArgument,
    judgments: Annotated[Path | None, typer.Option(help="Type the queries of this file; else parts of titles.")] = None,
    count: Annotated[int, typer.Option(help="How many letters are typed, at most.", min=100)] = 10_000,
    words: Annotated[int, typer.Option(help="How many words are misspelled in each way.", min=10)] = 2_000,
    seed: Annotated[int, typer.Option(help="Another seed makes other typos.")] = 7,
    as_json: JsonOption = False,
) -> None:
    """Time a suggestion after each letter of typed queries, and correct typos planted in titles that are held out."""
    import msgspec

    from benchmarks.latency import title_queries
    from benchmarks.suggesting import measure_keystrokes, measure_typos
    from retrieval.judgments import read_judgments
    from service.engine import SearchEngine
    from service.terminal import ProgressLines, write_json

    with SearchEngine.open(index, follow=False) as engine, ProgressLines() as progress:
        queries = list(read_judgments(judgments).grades) if judgments else title_queries(engine, count)
        progress.begin("suggest", None, "")
        latency = measure_keystrokes(engine.suggest, queries, count)
        progress.end(f"{latency.keystrokes:,} letters")
        progress.begin("correct", None, "")
        typos = measure_typos(engine.snapshot.products, words, seed)
        progress.end(f"{sum(each.words for each in typos):,} words")
        products = engine.manifest.products
    if as_json:
        told = [{**asdict(each), "recall": each.recall, "precision": each.precision} for each in typos]
        write_json(msgspec.json.encode({"products": products, "suggest": asdict(latency), "typos": told}))
    else:
        _show(products, latency, typos)


def _show(products: int, latency: SuggestLatency, typos: list[TypoFigures]) -> None:
    from benchmarks.tables import plain_table
    from service.terminal import out

    out.print(
        f"{products:,} products, {latency.keystrokes:,} letters typed: p50 {latency.p50:.2f} ms, "
        f"p99 {latency.p99:.2f} ms, most {latency.most:.1f} ms",
        highlight=False,
    )
    table = plain_table(["words", "count", "right", "wrong", "unasked right", "unasked wrong"], "corrected")
    for each in typos:
        shares = (each.right, each.wrong, each.sure_right, each.sure_wrong)
        right, wrong, sure_right, sure_wrong = (f"{count / max(each.words, 1):.1%}" for count in shares)
        table.add_row(each.kind, f"{each.words:,}", right, wrong, sure_right, sure_wrong)
    out.print(table)


EXAMPLES = ((suggest, "Example: shelfwise bench suggest store --judgments judgments.tsv"),)
