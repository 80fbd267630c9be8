"""The commands for what was trained for an index, rankers and user towers: list, show, compare, roll back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from rerank.evaluation.promotion import NDCG, Comparison, Decision
from rerank.model_store import DEFAULT_MODEL
from retrieval.errors import UnknownModelError
from service.cli.options import IndexOption, JsonOption
from service.cli.versions import size_text

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from rerank.model_store import Encoding, ModelEntry, ModelList, RollbackResult
    from rerank.ranker.spec import AddedRanker, RankerReport, RankerSpec, RankerStore, StoredRanker
    from rerank.user_tower.files import StoredUserTower, UserTowerReport, UserTowerSpec, UserTowerStore
    from service.training.ranker_pruning import PruningResult


RankerPrecision = Literal["fp32", "int8"]

models = typer.Typer(
    name="models",
    help="The rankers and user towers that were trained for an index: how good each is, and which one serves.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@models.command("list", epilog="Example: shelfwise models list --index store")
def list_models(index: IndexOption = Path("store"), as_json: JsonOption = False) -> None:
    """List the rankers and user towers of an index: how each was judged, and which one serves."""
    import msgspec

    from rerank import model_store
    from service.cli.output import write_json

    listed = model_store.list_models(_registry(index), _encoding(index))
    towers = model_store.list_models(_towers(index), _encoding(index))
    if as_json:
        write_json(msgspec.json.encode(listed.to_document("rankers") | {"user_towers": towers.to_document("towers")}))
        return
    show_rankers(listed, index)
    show_towers(towers, index)


@models.command(epilog="Example: shelfwise models show ranker-0003 --index store")
def show(
    ranker: Annotated[
        str, typer.Argument(help="A ranker or a user tower; by default the ranker that serves.", metavar="NAME")
    ] = "",
    index: IndexOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Show what a ranker or a user tower is, what it was trained on, and how it was judged."""
    import msgspec

    from service.cli.output import write_json

    if _is_tower(ranker):
        _show_tower(index, ranker, as_json=as_json)
        return
    registry, encoding = _registry(index), _encoding(index)
    serving = registry.serving(encoding).model
    made = registry.open(ranker or _serving(registry, index), encoding)
    document = {"name": made.name, "serves": serving is not None and made.name == serving.name}
    document |= {"spec": made.spec, "report": made.report}
    write_json(msgspec.json.encode(document)) if as_json else show_ranker(made)


@models.command(epilog="Example: shelfwise models compare ranker-0002 ranker-0003 --index store")
def compare(
    before: Annotated[
        str, typer.Argument(help="By default what the other was judged against, or the one before.", metavar="BEFORE")
    ] = "",
    after: Annotated[str, typer.Argument(help="The later one; by default the one that serves.", metavar="AFTER")] = "",
    index: IndexOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Show the measures of two rankers side by side, with the difference."""
    import msgspec

    from service.cli.output import write_json

    registry, encoding = _registry(index), _encoding(index)
    later = registry.open(after or _serving(registry, index), encoding)
    compared = compare_rankers(registry.open(before or _compared_with(registry, later), encoding), later)
    write_json(msgspec.json.encode(compared)) if as_json else show_comparison(compared)


@models.command(epilog="Example: shelfwise models rollback ranker-0002 --index store")
def rollback(
    ranker: Annotated[
        str,
        typer.Argument(
            help="A ranker or a user tower; by default the newest ranker before the one that serves that can.",
            metavar="NAME",
        ),
    ] = "",
    index: IndexOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Let an earlier ranker or user tower serve again; engines that have the index open take it up by themselves."""
    import msgspec

    from service.cli.output import write_json

    if _is_tower(ranker):
        _roll_back_tower(index, ranker, as_json=as_json)
        return
    done = _registry(index).rollback(ranker, _encoding(index))
    document = {"before": done.previous, "ranker": done.model.name, "passed_over": done.passed_over}
    write_json(msgspec.json.encode(document)) if as_json else show_model_rollback(done, index)


@models.command(epilog="Example: shelfwise models off --index store")
def off(index: IndexOption = Path("store"), as_json: JsonOption = False) -> None:
    """Let no ranker serve, also none that is published later: results keep the merged order until a rollback."""
    import msgspec

    from service.cli.output import write_json

    before = _registry(index).off()
    write_json(msgspec.json.encode({"before": before})) if as_json else show_off(before, index)


@models.command(epilog="Example: shelfwise models prune ranker-0003 --heads 1 --feed-forward 64 --precision int8")
def prune(
    ranker: Annotated[str, typer.Argument(help="By default the one that serves.", metavar="RANKER")] = "",
    heads: Annotated[int | None, typer.Option(help="Attention heads to leave; by default all.", min=1)] = None,
    feed_forward: Annotated[int | None, typer.Option(help="Units behind them to leave; by default all.", min=0)] = None,
    layers: Annotated[
        int | None, typer.Option(help="0 leaves the features head alone; by default the layer stays.", min=0, max=1)
    ] = None,
    precision: Annotated[
        RankerPrecision | None, typer.Option(help="Of the graph that serves; by default as it is.")
    ] = None,
    publish: Annotated[bool, typer.Option("--publish", help="Let the smaller ranker serve.")] = False,
    index: IndexOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Make a smaller ranker of a stored one, without the parts that matter least, and say how far both agree."""
    import msgspec

    from rerank.ranker.pruning import PruningTarget
    from service.cli.output import ProgressLines, write_json
    from service.training.ranker_pruning import RankerPruningOptions, prune_ranker

    registry = _registry(index)
    options = RankerPruningOptions(PruningTarget(heads, feed_forward, layers), precision, publish)
    with ProgressLines() as progress:
        parent = registry.open(ranker or _serving(registry, index), _encoding(index))
        done = prune_ranker(index, parent, options, progress)
    document = {"ranker": done.added.model.name, "serves": done.added.serves, "report": done.added.model.report}
    document |= {"agreement": done.agreement, "before": done.before, "after": done.after}
    document |= {"removed": done.added.removed, "notices": done.added.notices}
    write_json(msgspec.json.encode(document)) if as_json else show_pruned(done, index)


def _registry(index: Path) -> RankerStore:
    """The rankers of what is found to be an index directory."""
    from rerank.ranker.spec import ranker_store
    from retrieval.store.versions import Store

    Store(index).check_ours()
    return ranker_store(index)


def _towers(index: Path) -> UserTowerStore:
    from rerank.user_tower.files import user_tower_store

    return user_tower_store(index)


def _is_tower(name: str) -> bool:
    from rerank.user_tower.files import USER_TOWERS

    return USER_TOWERS.is_name(name)


def _show_tower(index: Path, name: str, *, as_json: bool) -> None:
    import msgspec

    from service.cli.output import write_json

    _registry(index)
    registry = _towers(index)
    tower = registry.open(name)
    serving = registry.serving(_encoding(index)).model
    serves = serving is not None and serving.name == tower.name
    document = {"name": tower.name, "serves": serves}
    document |= {"spec": tower.spec, "report": tower.report}
    write_json(msgspec.json.encode(document)) if as_json else show_tower(tower, serves=serves)


def _roll_back_tower(index: Path, name: str, *, as_json: bool) -> None:
    import msgspec

    from service.cli.output import write_json

    done = _towers(index).rollback(name, _encoding(index))
    document = {"before": done.previous, "tower": done.model.name}
    write_json(msgspec.json.encode(document)) if as_json else show_tower_rollback(done, index)


def _encoding(index: Path) -> Encoding | None:
    from service.engine.versions import stored_encoding

    return stored_encoding(index)


def _serving(registry: RankerStore, index: Path) -> str:
    """The ranker that serves; raises UnknownModelError where none does, which says why."""
    from service.cli.output import show_notices

    found = registry.serving(_encoding(index))
    if found.model is not None:
        show_notices(found.notices)
        return found.model.name
    there = f"name one of {', '.join(registry.names())}" if registry.names() else "train one: shelfwise train ranker"
    why = "".join(f" ({notice})" for notice in found.notices)
    raise UnknownModelError(f"no ranker serves in {registry.root}{why}; {there}")


def _compared_with(registry: RankerStore, later: StoredRanker) -> str:
    """What a ranker was judged against, or the one before it; raises UnknownModelError where there is neither."""
    names = registry.names()
    if later.report.against in names:
        return later.report.against
    older = names[: names.index(later.name)]
    if not older:
        message = f"{registry.root} has no ranker before {later.name} to compare it with; name two of its own"
        raise UnknownModelError(message)
    return older[-1]


# What the commands for rankers show in a terminal.

_RIGHT = {"size", "before", "after", "difference", "served", "challenger", "queries", "graph", "100 candidates", NDCG}


def show_rankers(listed: ModelList[RankerSpec, RankerReport], index: Path) -> None:
    """A table, newest first: the one that serves has a mark; why others do not is said below."""
    from rich.text import Text

    from service.cli.output import out, show_notices, shown

    if listed.serving == DEFAULT_MODEL:
        out.print(Text(f"{DEFAULT_MODEL}, the ranker that comes with the program, serves."), soft_wrap=True)
    if listed.models:
        table = _table("", "ranker", "made", "kind", NDCG, "decision", "size")
        for entry in reversed(listed.models):
            table.add_row(*_row(entry))
        out.print(table)
    else:
        how = f"To train one: shelfwise train ranker --index {index}"
        out.print(Text(f"No ranker of its own yet. {how}"), soft_wrap=True)
    for entry in reversed(listed.models):
        if entry.problem:
            out.print(Text(f"{entry.name} cannot be used: {shown(entry.problem)}", style="red"), soft_wrap=True)
        elif entry.report and entry.report.rejection_reasons:
            first, *more = entry.report.rejection_reasons
            others = f"; {len(more)} more: shelfwise models show {entry.name} --index {index}" if more else ""
            out.print(Text(f"{entry.name} was rejected: {shown(first)}{others}"), soft_wrap=True)
        elif entry.misfit:
            out.print(Text(f"{entry.name} is for another index: {shown(entry.misfit)}"), soft_wrap=True)
    show_notices(tuple(map(shown, listed.notices)))
    if listed.is_off:
        cure = f"; to let one serve: shelfwise models rollback --index {index}" if listed.models else ""
        out.print(Text(f"Rankers are switched off: results keep the merged order{cure}"), soft_wrap=True)
    elif listed.models and not listed.serving:
        out.print("None serves: results keep the merged order.")


def _row(entry: ModelEntry[RankerSpec, RankerReport]) -> tuple[str | Text, ...]:
    from rich.text import Text

    mark = Text("▶", style="bold green") if entry.serves else ""
    if entry.spec is None or entry.report is None:
        return mark, entry.name, "", "", "", Text("unusable", style="red"), size_text(entry.bytes)
    verdict = Text("rejected", style="yellow") if entry.is_rejected else "published"
    reached = _number(entry.report.measures.get(NDCG))
    return mark, entry.name, moment(entry.report.created), _kind(entry.spec), reached, verdict, size_text(entry.bytes)


def show_ranker(made: StoredRanker) -> None:
    """What a ranker is, then how it was judged."""
    from rich.table import Table
    from rich.text import Text

    from service.cli.output import out, shown

    spec, report = made.spec, made.report
    table = Table.grid(padding=(0, 2))
    rows = {
        "ranker": f"{made.name}, made {moment(report.created)}",
        "identity": spec.identity + (f", trained on from {spec.parent}" if spec.parent else ""),
        "kind": _kind(spec),
        "encoder": f"{spec.encoder}, states of dimension {spec.state_dimension}",
        "features": ", ".join(spec.features),
        "score": f"network + {spec.mix:g} of the merged score",
        "events": "click {:g}, cart {:g}, purchase {:g}".format(*spec.event_weights),
        "fits": "with the probability sigmoid({:g} × score {:+g})".format(*spec.calibration),
        "trained on": ", ".join(f"{name} {value}" for name, value in spec.trained_on.items()),
        "measured on": report.measured_on,
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(shown(value)))
    for name, reached in report.measures.items():
        table.add_row(Text(shown(name)), _number(reached))
    out.print(table)
    _show_reasons(report)
    if report.decision is not None:
        _show_comparisons(report.decision)


def _show_reasons(report: RankerReport) -> None:
    """Why it was published or rejected, one reason a line."""
    from rich.text import Text

    from service.cli.output import out, shown

    reasons = report.rejection_reasons or (report.decision.reasons if report.decision else ())
    if not reasons:
        return
    against = f" against {shown(report.against)}" if report.against else ""
    out.print()
    out.print(
        Text(f"rejected{against}" if report.rejection_reasons else f"published{against}", style="bold"), soft_wrap=True
    )
    for reason in reasons:
        out.print(Text(f"  {shown(reason)}", style="yellow" if report.rejection_reasons else "green"), soft_wrap=True)


def _show_comparisons(verdict: Decision) -> None:
    from rich.text import Text

    from service.cli.output import out, shown

    out.print()
    table = _table("measure", "on", "queries", "served", "challenger", "difference")
    for each in verdict.comparisons:
        style = "green" if each.is_better else "red" if each.is_worse else ""
        numbers = f"{each.queries:,}", _number(each.served), _number(each.challenger)
        table.add_row(each.measure, Text(shown(each.slice)), *numbers, Text(_interval(each), style=style))
    out.print(table)


def _interval(each: Comparison) -> str:
    found = each.difference
    return "too few to decide" if found is None else str(found)


def show_trained(added: AddedRanker, index: Path) -> None:
    """What a training gave, and whether it serves."""
    from rich.text import Text

    from service.cli.output import out, show_notices

    made = added.model
    show_ranker(made)
    if added.serves:
        out.print(f"\n[bold]{made.name}[/] serves.", highlight=False)
        if made.report.against.startswith("ranker-"):
            undo = f"{made.report.against} is kept; to go back to it: shelfwise models rollback --index {index}"
            out.print(Text(undo), soft_wrap=True)
    elif made.report.rejection_reasons:
        out.print(f"\n[bold]{made.name}[/] is rejected, and {made.report.against} serves on.", highlight=False)
    if added.removed:
        out.print(Text(f"Removed, being the oldest: {', '.join(added.removed)}"), soft_wrap=True)
    show_notices(added.notices)


def show_default(report: RankerReport, folder: Path) -> None:
    """What a ranker for stores without one reaches on each catalog that it was left out of."""
    from rich.text import Text

    from service.cli.output import out

    table = _table("measure", NDCG)
    for name, value in report.measures.items():
        table.add_row(Text(name), f"{value:.4f}")
    out.print(table)
    out.print(Text(f"Written to {folder}: measured on {report.measured_on}"), soft_wrap=True)


def show_pruned(done: PruningResult, index: Path) -> None:
    """What a smaller ranker takes and how far it agrees with the one that it was made of, and whether it serves."""
    from rich.text import Text

    from service.cli.output import out, show_notices

    made, before = done.added.model, done.added.model.report.against
    table = _table("", "graph", "100 candidates")
    for name, size in ((before, done.before), (made.name, done.after)):
        table.add_row(name, size_text(size.bytes), f"{size.milliseconds:.2f} ms")
    out.print(table)
    alike = done.agreement
    out.print(
        f"On {alike.queries:,} synthetic queries: agreement {alike.agreement:.4f} (nDCG@10 by the scores of {before}), "
        f"{alike.first_ten:.1%} of its first ten stay.",
        highlight=False,
        soft_wrap=True,
    )
    if done.added.serves:
        undo = f"{before} is kept; to go back to it: shelfwise models rollback {before} --index {index}"
        out.print(Text(f"{made.name} serves. {undo}"), soft_wrap=True)
    elif made.report.rejection_reasons:
        again = "to let one serve: the same command with --publish"
        out.print(Text(f"{made.name} is rejected; {again}"), soft_wrap=True)
    if done.added.removed:
        out.print(Text(f"Removed, being the oldest: {', '.join(done.added.removed)}"), soft_wrap=True)
    show_notices(done.added.notices)


def show_comparison(compared: ComparedRankers) -> None:
    """Measures side by side, then what the two differ in."""
    from rich.text import Text

    from service.cli.output import out, show_notices, shown

    out.print(f"[bold]{compared.before}[/] → [bold]{compared.after}[/]", highlight=False)
    table = _table("measure", "before", "after", "difference")
    for each in compared.measures:
        moved = "" if each.difference is None else f"{each.difference:+z.4f}"
        table.add_row(Text(shown(each.measure)), _number(each.before), _number(each.after), moved)
    out.print(table if compared.measures else "Neither was measured.")
    for name, (before, after) in compared.settings.items():
        out.print(Text(shown(f"{name.replace('_', ' ')}: {before} → {after}")), soft_wrap=True)
    if compared.measures and not compared.same_data:
        show_notices(("they were measured on different held-out data, so the differences tell of the data too",))


def show_model_rollback(done: RollbackResult[RankerSpec, RankerReport], index: Path) -> None:
    """What serves now, and how to undo it."""
    from service.cli.output import show_notices

    show_notices(done.passed_over)
    show_gone_back(done.model.name, done.previous, done.model.report.created, index)


def show_gone_back(name: str, before: str, created: str, index: Path) -> None:
    """That a model, made at `created`, serves in the place of the one `before`, if there was one."""
    from rich.text import Text

    from service.cli.output import out

    if name == before:
        out.print(f"[bold]{name}[/] serves already.", highlight=False)
        return
    out.print(f"[bold]{name}[/] serves: made {moment(created)}.", highlight=False)
    if before:
        undo = f"{before} is kept; to go back to it: shelfwise models rollback {before} --index {index}"
        out.print(Text(undo), soft_wrap=True)


def show_off(before: str, index: Path) -> None:
    """What served, and how to undo it."""
    from rich.text import Text

    from service.cli.output import out

    out.print("No ranker serves: results keep the merged order.")
    if before:
        undo = f"{before} is kept; to let it serve again: shelfwise models rollback {before} --index {index}"
        out.print(Text(undo), soft_wrap=True)


def _table(*names: str) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in _RIGHT else "left", no_wrap=True)
    return table


def _kind(spec: RankerSpec) -> str:
    layers = f"{spec.layers} attention layer{'s' if spec.layers > 1 else ''}" if spec.layers else "features head"
    return f"{layers}, {spec.precision}"


def moment(created: str) -> str:
    """A time of a report, as people read it."""
    from service.cli.output import shown

    return shown(created.replace("T", " ")[:16])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def show_towers(listed: ModelList[UserTowerSpec, UserTowerReport], index: Path) -> None:
    """A table, newest first: the one that serves has a mark; why others do not is said below."""
    from rich.text import Text

    from service.cli.output import out, plain_table, show_notices, shown

    if not listed.models:
        out.print(Text(f"No user tower yet. To train one: shelfwise train users --index {index}"), soft_wrap=True)
        return
    table = plain_table("", "user tower", "made", "judged by", "nDCG@10", "decision", right={"judged by", "nDCG@10"})
    for entry in reversed(listed.models):
        table.add_row(*_tower_row(entry))
    out.print(table)
    for entry in reversed(listed.models):
        if entry.problem:
            out.print(Text(f"{entry.name} cannot be used: {shown(entry.problem)}", style="red"), soft_wrap=True)
        elif entry.report and entry.report.rejection_reasons:
            out.print(
                Text(f"{entry.name} was rejected: {shown('; '.join(entry.report.rejection_reasons))}"), soft_wrap=True
            )
        elif entry.misfit:
            out.print(Text(f"{entry.name} is for another index: {shown(entry.misfit)}"), soft_wrap=True)
    show_notices(tuple(map(shown, listed.notices)))
    if not listed.serving:
        out.print("None serves: recommendations do without one.")


def show_judged(tower: StoredUserTower, *, serves: bool) -> None:
    """What every way of user_tower_summary reached, among all shoppers and some of them, and whether the tower
    serves."""
    from rich.text import Text

    from service.cli.output import out, plain_table

    report = tower.report
    table = plain_table("of whom", "method", "HR@10", "nDCG@10", right=("HR@10", "nDCG@10"))
    for part, ways in ({"all shoppers": report.methods} | dict(report.slices)).items():
        for number, way in enumerate(ways):
            table.add_row("" if number else part, way.name, f"{way.hit_rate:.4f}", f"{way.ndcg:.4f}")
    out.print(table)
    verdict = (
        f"was rejected: {'; '.join(report.rejection_reasons)}"
        if report.rejection_reasons
        else "serves"
        if serves
        else "served before"
    )
    out.print(Text(f"{tower.name}, judged by {report.shoppers:,} shoppers, {verdict}"), soft_wrap=True)


def show_tower(tower: StoredUserTower, *, serves: bool) -> None:
    """What a tower is, and how it was judged."""
    from rich.text import Text

    from service.cli.output import out, shown

    spec = tower.spec
    out.print(Text(f"{tower.name}, made {moment(tower.report.created)}, for the encoder {shown(spec.encoder)}"))
    told = ", ".join(f"{name} {value}" for name, value in spec.trained_on.items())
    out.print(Text(f"trained on {shown(told)}"), soft_wrap=True)
    if spec.neighbour_weight:
        count = f"count {spec.neighbour_weight:g}, an older product {spec.neighbour_decay:g} of the next newer one"
        if spec.neighbour_options and spec.neighbour_options.half_life:
            count += f", and a choice half after {spec.neighbour_options.half_life:g} days"
        out.print(Text(f"what the same shoppers chose counts in it: neighbours {count}"), soft_wrap=True)
    show_judged(tower, serves=serves)


def show_tower_rollback(done: RollbackResult[UserTowerSpec, UserTowerReport], index: Path) -> None:
    """What serves now, and how to undo it."""
    show_gone_back(done.model.name, done.previous, done.model.report.created, index)


def _tower_row(entry: ModelEntry[UserTowerSpec, UserTowerReport]) -> tuple[str | Text, ...]:
    from rich.text import Text

    mark = Text("▶", style="bold green") if entry.serves else ""
    report = entry.report
    if report is None:
        return mark, entry.name, "", "", "", Text("unusable", style="red")
    reached = f"{report.methods[0].ndcg:.4f}" if report.methods else ""
    verdict = Text("rejected", style="yellow") if report.rejection_reasons else Text("published")
    return mark, entry.name, moment(report.created), f"{report.shoppers:,} shoppers", reached, verdict


class ComparedMeasure(msgspec.Struct, frozen=True):
    """One measure of two rankers; None where it was not taken."""

    measure: str
    before: float | None
    after: float | None
    difference: float | None
    """After less before."""


class ComparedRankers(msgspec.Struct, frozen=True):
    """What two rankers have and reach."""

    before: str
    after: str
    measures: tuple[ComparedMeasure, ...]
    settings: dict[str, tuple[str, str]]
    """What they differ in, of what running them takes: before and after."""
    same_data: bool
    """Whether both were measured on the same held-out data; else differences tell of the data too."""


_SETTINGS = ("encoder", "state_dimension", "features", "layers", "precision", "mix", "event_weights", "calibration")


def compare_rankers(before: StoredRanker, after: StoredRanker) -> ComparedRankers:
    """Every measure that either has, in the later one's order first."""
    one, other = before.report.measures, after.report.measures
    measures = tuple(_measure(name, one.get(name), other.get(name)) for name in dict.fromkeys((*other, *one)))
    pairs = {name: (_text(getattr(before.spec, name)), _text(getattr(after.spec, name))) for name in _SETTINGS}
    settings = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    same = before.report.measured_on == after.report.measured_on != ""
    return ComparedRankers(before.name, after.name, measures, settings, same)


def _measure(name: str, before: float | None, after: float | None) -> ComparedMeasure:
    difference = None if before is None or after is None else after - before
    return ComparedMeasure(name, before, after, difference)


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
