"""The command that trains the encoder: `shelfwise train towers`, and what it shows of what came of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.options import IndexOption, JsonOption, SettingsOption, cache_folder, check_index
from service.tower_options import TeacherOption, takes_tower_options

if TYPE_CHECKING:
    from rerank.towers.options import TowerOptions
    from service.training.encoder_gate import EncoderReport
    from service.training.towers import WrittenTowers

EncoderOption = Annotated[str, typer.Option("--encoder", help="A model to begin with; by default the index's own.")]
CatalogOption = Annotated[
    int,
    typer.Option(
        "--from-catalog", help="Learn from so many queries made from the catalog's own products.", min=0, max=1_000_000
    ),
]
SyntheticOption = Annotated[
    int,
    typer.Option(
        "--synthetic",
        help="Learn from so many queries made from products that nobody has searched, beside the others.",
        min=0,
        max=1_000_000,
    ),
]
ParaphrasesOption = Annotated[
    bool,
    typer.Option(
        "--paraphrases",
        help="Of clicks: queries of few positives learn what answers those that shoppers replaced them by.",
    ),
]
TuneOption = Annotated[
    int,
    typer.Option(
        "--tune",
        help="Look for learning rate, temperature, margin and negatives first, by so many short trainings.",
        min=0,
        max=1_000,
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="A new folder; by default one under the index's training/towers.")
]


@takes_tower_options
def towers(
    index: IndexOption = Path("store"),
    judgments: Annotated[
        list[Path] | None,
        typer.Option(help="A file of judged queries; by default it learns from what shoppers did. Repeatable."),
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Judged queries that choose; by default a tenth of the others.")
    ] = None,
    encoder: EncoderOption = "",
    from_catalog: CatalogOption = 0,
    *,
    paraphrases: ParaphrasesOption = False,
    synthetic: SyntheticOption = 0,
    tune: TuneOption = 0,
    teacher: TeacherOption = "",
    out: OutOption = None,
    aside: Annotated[
        bool, typer.Option("--aside", help="Only write the folder: nothing that serves is looked at or changed.")
    ] = False,
    runtime: Annotated[
        str, typer.Option(help="What it serves in: auto, torch, torch-bf16, onnx-fp32 or onnx-int8.")
    ] = "auto",
    settings: SettingsOption = None,
    as_json: JsonOption = False,
    options: Callable[[], TowerOptions],
) -> None:
    """Train the encoder of an index on judged queries or on clicks, and let it serve if it is better: the catalog is
    encoded by it, and a fifth of the queries judge. What was interrupted goes on where it was."""
    check_index(index)
    import msgspec

    from service.settings import load_settings
    from service.terminal import ProgressLines, write_json
    from service.training.towers import TowersRequest, train_text_towers

    request = TowersRequest(
        judgments or (),
        from_catalog,
        validation,
        paraphrases=paraphrases,
        synthetic=synthetic,
        encoder=encoder,
        teacher=teacher,
        out=out,
        cache=cache_folder(),
        publish=not aside,
        runtime=runtime,
        options=options(),
        tune=tune,
    )
    with ProgressLines() as progress:
        done = train_text_towers(index, load_settings(settings), request, progress)
    document = {"folder": str(done.folder), "towers": done.spec, "published": done.published}
    write_json(msgspec.json.encode(document)) if as_json else _show(done, index)


def _show(done: WrittenTowers, index: Path) -> None:
    from rich.text import Text

    from service.terminal import out, plain_table, show_notices

    spec = done.spec
    table = plain_table("part", "loss", "nDCG@10", "", right={"part", "loss", "nDCG@10"})
    for epoch in spec.curve:
        lost = "" if epoch.loss is None else f"{epoch.loss:.4f}"
        table.add_row(f"{epoch.number}", lost, f"{epoch.validation:.4f}", "kept" if epoch.number == spec.best else "")
    of = f", the mean of {spec.averaged} parts" if spec.averaged > 1 else ""
    table.add_row("", "", f"{spec.validation:.4f}", f"{spec.share:.0%} of what was learned{of}")
    if spec.layers is not None:
        fewer = max(epoch.validation for epoch in spec.pruning)
        table.add_row("", "", f"{fewer:.4f}", f"layers: {spec.layers}, taught by all")
    out.print(table)
    if done.published is not None and done.published.report is not None:
        _show_report(done.published.report)
    show_notices((*([spec.stopped] if spec.stopped else []), *spec.notices))
    out.print(Text(f"\nWritten to {done.folder}: trained from {spec.base} on {spec.source}."), soft_wrap=True)
    if done.whole is not None:
        out.print(Text(f"With all layers: {done.whole}"), soft_wrap=True)
    if done.published is not None and done.published.serves:
        out.print(Text(f"{done.published.version} is published and serves, in {done.published.runtime}."))
        again = f"What was trained on the vectors before serves no more: shelfwise learn --index {index}"
        out.print(Text(again), soft_wrap=True)
        return
    if done.published is not None and done.published.report is not None:
        out.print(Text(f"It does not serve: {'; '.join(done.published.report.aside)}"), soft_wrap=True)
    use = f"To use it: shelfwise rebuild --index {index} --encoder {done.folder}"
    out.print(Text(use), soft_wrap=True)


def _show_report(report: EncoderReport) -> None:
    from service.terminal import out, plain_table

    if not report.orders:
        return
    right = {"nDCG@10 before", "after"}
    table = plain_table(f"{report.queries:,} queries that judge", "nDCG@10 before", "after", right=right)
    for order in report.orders:
        table.add_row(order.name, f"{order.before:.4f}", "" if order.after is None else f"{order.after:.4f}")
    out.print(table)


EXAMPLES = ((towers, "Example: shelfwise train towers --index store --judgments judgments.tsv"),)
