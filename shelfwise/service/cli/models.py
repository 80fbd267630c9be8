"""Trained rankers, user towers and expansions: `models list`, `show`, `rollback`, `off`, `prune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from shelfwise.rerank import model_store
from shelfwise.rerank.evaluation.promotion import NDCG, Decision, MeasureComparison
from shelfwise.rerank.expansions import (
    EXPANSION_MODELS,
    ExpansionReport,
    ExpansionSpec,
    StoredExpansion,
    expansion_store,
)
from shelfwise.rerank.model_card import CARD_FILE, read_card
from shelfwise.rerank.model_store import DEFAULT_MODEL, ModelEntry, ModelList, ModelStore, RollbackResult
from shelfwise.rerank.ranker.spec import (
    RANKERS,
    AddedRanker,
    RankerReport,
    RankerSpec,
    RankerStore,
    StoredRanker,
    ranker_store,
)
from shelfwise.rerank.user_tower.files import (
    USER_TOWERS,
    StoredUserTower,
    UserTowerReport,
    UserTowerSpec,
    user_tower_store,
)
from shelfwise.retrieval.errors import UnknownModelError
from shelfwise.retrieval.html_report import printable, size_text
from shelfwise.service.cli.options import Index, check_index, command
from shelfwise.service.cli.output import (
    TerminalProgress,
    emit,
    plain_table,
    say,
    show_notices,
    show_pairs,
    show_table,
    time_text,
)
from shelfwise.service.engine.models import model_store_of
from shelfwise.service.engine.versions import stored_encoding

if TYPE_CHECKING:
    from shelfwise.service.training.ranker_pruning import PruningResult

Rankers = ModelList[RankerSpec, RankerReport]
UserTowers = ModelList[UserTowerSpec, UserTowerReport]
ExpansionModels = ModelList[ExpansionSpec, ExpansionReport]


@command("models list store")
def list_models(index: Index) -> None:
    """List the rankers, user towers and expansions of an index, with their evaluations, and mark the serving ones."""
    check_index(index)
    encoding = stored_encoding(index)
    rankers = model_store.list_models(ranker_store(index), encoding)
    towers = model_store.list_models(user_tower_store(index), encoding)
    expansions = model_store.list_models(expansion_store(index), encoding)
    others = {"user_towers": towers.to_document("towers"), "expansions": expansions.to_document("expansions")}
    emit(rankers, _show_models, towers, expansions, index, document=rankers.to_document("rankers") | others)


@command("models show store ranker-0003")
def show(
    index: Index,
    name: Annotated[str, Argument(help="A model of any kind; by default the serving ranker.", metavar="MODEL")] = "",
    card: Annotated[bool, Option("--card", help="Print its model card, as Markdown.")] = False,
) -> None:
    """Show a ranker, a user tower or an expansion: its training data and its evaluation."""
    check_index(index)
    encoding = stored_encoding(index)
    if card:
        model = model_store_of(index, name).open(name or _serving(ranker_store(index)), encoding)
        emit({"name": model.name, "card": read_card(model.folder)}, lambda found: say(found["card"]))
        return
    if USER_TOWERS.is_name(name):
        towers = user_tower_store(index)
        tower, serving = towers.open(name), towers.serving(encoding).model
        serves = serving is not None and serving.name == tower.name
        emit(tower, _show_tower, serves, document=_document(tower, serves))
    elif EXPANSION_MODELS.is_name(name):
        expansions = expansion_store(index)
        expansion = expansions.open(name)
        serves = expansions.current() == name
        emit(expansion, show_expansion, serves, document=_document(expansion, serves))
    else:
        rankers = ranker_store(index)
        served = rankers.serving(encoding).model
        ranker = rankers.open(name or _serving(rankers), encoding)
        serves = served is not None and served.name == ranker.name
        emit(ranker, _show_ranker, document=_document(ranker, serves))


@command("models rollback store ranker-0002")
def rollback(
    index: Index,
    name: Annotated[
        str,
        Argument(
            help="A model of any kind; by default the newest usable ranker before the serving one.", metavar="MODEL"
        ),
    ] = "",
) -> None:
    """Make an earlier model serve again. Open engines reload it by themselves."""
    check_index(index)
    store = model_store_of(index, name)
    done = store.rollback(name, stored_encoding(index))
    document: dict[str, object] = {"before": done.previous, store.family.noun: done.model.name}
    if store.family is RANKERS:
        document["passed_over"] = done.passed_over
    emit(done, _show_rollback, index, document=document)


@command("models off store")
def off(
    index: Index,
    expansions: Annotated[bool, Option("--expansions", help="Switch off learned expansions, not rankers.")] = False,
) -> None:
    """Switch rankers off, including those published later: results keep the merged order until a rollback."""
    check_index(index)
    store: ModelStore[Any, Any] = expansion_store(index) if expansions else ranker_store(index)
    emit({"before": store.off()}, _show_off, store)


@command("models prune store ranker-0003 --heads 1 --feed-forward 64 --precision int8")
def prune(
    index: Index,
    ranker: Annotated[str, Argument(help="By default the serving one.", metavar="RANKER")] = "",
    heads: Annotated[int | None, Option(help="Attention heads to keep; by default all.", min=1)] = None,
    feed_forward: Annotated[int | None, Option(help="Feed-forward units to keep; by default all.", min=0)] = None,
    layers: Annotated[
        int | None, Option(help="0 keeps only the features head; by default the layer is kept.", min=0, max=1)
    ] = None,
    precision: Annotated[
        Literal["fp32", "int8"] | None, Option(help="Precision of the served graph; by default unchanged.")
    ] = None,
    publish: Annotated[bool, Option("--publish", help="Let the smaller ranker serve.")] = False,
) -> None:
    """Create a smaller ranker from a stored one by removing its least important parts, and report their agreement."""
    check_index(index)
    from shelfwise.rerank.ranker.pruning import PruningTarget  # torch is slow to load
    from shelfwise.service.training.ranker_pruning import RankerPruningOptions, prune_ranker

    registry = ranker_store(index)
    options = RankerPruningOptions(PruningTarget(heads, feed_forward, layers), precision, publish)
    with TerminalProgress() as progress:
        parent = registry.open(ranker or _serving(registry), stored_encoding(index))
        done = prune_ranker(index, parent, options, progress)
    document = ranker_document(done.added) | {"agreement": done.agreement, "before": done.before, "after": done.after}
    emit(done, _show_pruning, index, document=document)


def ranker_document(added: AddedRanker) -> dict[str, object]:
    """The JSON of a newly stored ranker."""
    document: dict[str, object] = {"ranker": added.model.name, "serves": added.serves, "report": added.model.report}
    return document | {"removed": added.removed, "notices": added.notices}


def _document(model: StoredRanker | StoredUserTower | StoredExpansion, serves: bool) -> dict[str, object]:
    return {"name": model.name, "serves": serves, "spec": model.spec, "report": model.report}


def _serving(registry: RankerStore) -> str:
    """The serving ranker; raises UnknownModelError with the reason if there is none."""
    found = registry.serving(stored_encoding(registry.root))
    if found.model is not None:
        show_notices(found.notices)
        return found.model.name
    cure = f"name one of {', '.join(registry.names())}" if registry.names() else "train one: shelfwise train ranker"
    why = "".join(f" ({notice})" for notice in found.notices)
    raise UnknownModelError(f"no ranker serves in {registry.root}{why}; {cure}")


_NUMBERS = {"size", "before", "after", "difference", "served", "challenger", "queries", "graph", "100 candidates", NDCG}
_MARK = Text("▶", style="bold green")


def _show_models(rankers: Rankers, towers: UserTowers, expansions: ExpansionModels, index: Path) -> None:
    _show_rankers(rankers, index)
    _show_towers(towers, index)
    _show_expansions(expansions, index)


def _show_rankers(listed: Rankers, index: Path) -> None:
    if listed.serving == DEFAULT_MODEL:
        say(f"{DEFAULT_MODEL}, the shipped ranker, serves.")
    if listed.models:
        table = _table("", "ranker", "made", "kind", NDCG, "decision", "size")
        for entry in reversed(listed.models):
            table.add_row(*_ranker_row(entry))
        show_table(table)
    else:
        say(f"This index has no ranker yet. To train one: shelfwise train ranker {index}")
    for entry in reversed(listed.models):
        reasons = entry.report.rejection_reasons if entry.report else ()
        more = f"; {len(reasons) - 1} more: shelfwise models show {index} {entry.name}" if len(reasons) > 1 else ""
        _show_state(entry, f"{reasons[0]}{more}" if reasons else "")
    show_notices(map(printable, listed.notices))
    if listed.is_off:
        cure = f"; to switch them on: shelfwise models rollback {index}" if listed.models else ""
        say(f"Rankers are switched off: results keep the merged order{cure}")
    elif listed.models and not listed.serving:
        say("No ranker serves: results keep the merged order.")


def _show_towers(listed: UserTowers, index: Path) -> None:
    if not listed.models:
        say(f"No user tower yet. To train one: shelfwise train users {index}")
        return
    table = plain_table("", "user tower", "made", "judged by", "nDCG@10", "decision", right={"judged by", "nDCG@10"})
    for entry in reversed(listed.models):
        table.add_row(*_tower_row(entry))
    _show_listed(listed, table, "No user tower serves: recommendations are made without one.")


def _show_expansions(listed: ExpansionModels, index: Path) -> None:
    if not listed.models:
        say(f"No learned expansions yet. To train them: shelfwise train expansions {index}")
        return
    table = plain_table("", "expansion", "made", "words", "nDCG@10", "decision", right={"words", "nDCG@10"})
    for entry in reversed(listed.models):
        mark, spec, report = _MARK if entry.serves else "", entry.spec, entry.report
        if spec is None or report is None:
            table.add_row(mark, entry.name, "", "", "", Text("unusable", style="red"))
        else:
            facts = time_text(report.created), f"{spec.words:,}", _number(report.measures.get(NDCG))
            table.add_row(mark, entry.name, *facts, _decision(entry.is_rejected))
    _show_listed(listed, table, "No learned expansions serve.")


def _show_listed(listed: ModelList[Any, Any], table: Table, none_serves: str) -> None:
    """Prints a table of models, the reasons why some do not serve, and a message if none serves."""
    show_table(table)
    for entry in reversed(listed.models):
        _show_state(entry, "; ".join(entry.report.rejection_reasons) if entry.report else "")
    show_notices(map(printable, listed.notices))
    if not listed.serving:
        say(none_serves)


def _show_state(entry: ModelEntry[Any, Any], rejected: str) -> None:
    """Prints the reason why a model cannot serve, if there is one."""
    if entry.problem:
        say(f"{entry.name} cannot be used: {printable(entry.problem)}", style="red")
    elif rejected:
        say(f"{entry.name} was rejected: {printable(rejected)}")
    elif entry.misfit:
        say(f"{entry.name} is for another index: {printable(entry.misfit)}")


def _ranker_row(entry: ModelEntry[RankerSpec, RankerReport]) -> tuple[str | Text, ...]:
    mark, size = _MARK if entry.serves else "", size_text(entry.bytes)
    if entry.spec is None or entry.report is None:
        return mark, entry.name, "", "", "", Text("unusable", style="red"), size
    ndcg, created = _number(entry.report.measures.get(NDCG)), time_text(entry.report.created)
    return mark, entry.name, created, _kind(entry.spec), ndcg, _decision(entry.is_rejected), size


def _tower_row(entry: ModelEntry[UserTowerSpec, UserTowerReport]) -> tuple[str | Text, ...]:
    mark, report = _MARK if entry.serves else "", entry.report
    if report is None:
        return mark, entry.name, "", "", "", Text("unusable", style="red")
    ndcg = f"{report.methods[0].ndcg:.4f}" if report.methods else ""
    decision = _decision(bool(report.rejection_reasons))
    return mark, entry.name, time_text(report.created), f"{report.shoppers:,} shoppers", ndcg, decision


def _decision(is_rejected: bool) -> Text:
    return Text("rejected", style="yellow") if is_rejected else Text("published")


def _show_ranker(ranker: StoredRanker) -> None:
    spec, report = ranker.spec, ranker.report
    show_pairs(
        (
            ("ranker", f"{ranker.name}, made {time_text(report.created)}"),
            ("identity", spec.identity + (f", continued from {spec.parent}" if spec.parent else "")),
            ("kind", _kind(spec)),
            ("encoder", f"{spec.encoder}, states of dimension {spec.state_dimension}"),
            ("features", ", ".join(spec.features)),
            ("score", f"network + {spec.mix:g} of the merged score"),
            ("events", "click {:g}, cart {:g}, purchase {:g}".format(*spec.event_weights)),
            ("relevant", "with probability sigmoid({:g} × score {:+g})".format(*spec.calibration)),
            ("trained on", ", ".join(f"{name} {value}" for name, value in spec.trained_on.items())),
            ("measured on", report.measured_on),
            ("card", str(ranker.folder / CARD_FILE)),
            *((name, _number(value)) for name, value in report.measures.items()),
        )
    )
    _show_reasons(report)
    if report.decision is not None:
        _show_comparisons(report.decision)


def _show_reasons(report: RankerReport | ExpansionReport) -> None:
    """Prints why a ranker was published or rejected, one reason per line."""
    reasons = report.rejection_reasons or (report.decision.reasons if report.decision else ())
    if reasons:
        decision, style = ("rejected", "yellow") if report.rejection_reasons else ("published", "green")
        say(f"\n{decision}{f' against {printable(report.against)}' if report.against else ''}", style="bold")
        for reason in reasons:
            say(f"  {printable(reason)}", style=style)


def _show_comparisons(decision: Decision) -> None:
    table = _table("measure", "on", "queries", "served", "challenger", "difference")
    for each in (each for each in decision.comparisons if each.queries):
        style = "green" if each.is_better else "red" if each.is_worse else ""
        numbers = f"{each.queries:,}", _number(each.served), _number(each.challenger)
        table.add_row(each.measure, Text(printable(each.slice)), *numbers, Text(_interval(each), style=style))
    show_table("", table)


def _interval(each: MeasureComparison) -> str:
    found = each.difference
    return "too few to decide" if found is None else str(found)


def show_training(added: AddedRanker, index: Path) -> None:
    """Prints the result of a training, and whether the ranker serves."""
    ranker, report = added.model, added.model.report
    _show_ranker(ranker)
    if added.serves:
        say("\n", (ranker.name, "bold"), " serves.")
        if report.against.startswith("ranker-"):
            say(f"{report.against} is kept; to go back to it: shelfwise models rollback {index}")
    elif report.rejection_reasons:
        say("\n", (ranker.name, "bold"), f" was rejected; {report.against} still serves.")
    _show_removed(added)


def _show_removed(added: AddedRanker) -> None:
    if added.removed:
        say(f"Removed as the oldest: {', '.join(added.removed)}")
    show_notices(added.notices)


def _show_pruning(done: PruningResult, index: Path) -> None:
    ranker, before, agreement = done.added.model, done.added.model.report.against, done.agreement
    table = _table("", "graph", "100 candidates")
    for name, size in ((before, done.before), (ranker.name, done.after)):
        table.add_row(name, size_text(size.bytes), f"{size.milliseconds:.2f} ms")
    show_table(table)
    say(
        f"On {agreement.queries:,} synthetic queries: agreement {agreement.agreement:.4f} "
        f"(nDCG@10 by the scores of {before}), {agreement.first_ten:.1%} of its first ten hits stay."
    )
    if done.added.serves:
        say(f"{ranker.name} serves. {_undo(before, index)}")
    elif ranker.report.rejection_reasons:
        say(f"{ranker.name} was not published; to publish it: the same command with --publish")
    _show_removed(done.added)


def _show_rollback(done: RollbackResult[Any, Any], index: Path) -> None:
    show_notices(done.passed_over)
    if done.model.name == done.previous:
        say((done.previous, "bold"), " already serves.")
        return
    say((done.model.name, "bold"), f" serves: made {time_text(done.model.report.created)}.")
    if done.previous:
        say(_undo(done.previous, index))


def _show_off(document: dict[str, str], store: ModelStore[Any, Any]) -> None:
    say(f"No {store.family.noun} serves: {store.family.fallback}.")
    if before := document["before"]:
        say(f"{before} is kept; to let it serve again: shelfwise models rollback {store.root} {before}")


def _undo(before: str, index: Path) -> str:
    return f"{before} is kept; to go back to it: shelfwise models rollback {index} {before}"


def _table(*names: str) -> Table:
    return plain_table(*names, right=_NUMBERS)


def _kind(spec: RankerSpec) -> str:
    layers = f"{spec.layers} attention layer{'s' if spec.layers > 1 else ''}" if spec.layers else "features head"
    return f"{layers}, {spec.precision}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _show_tower(tower: StoredUserTower, serves: bool) -> None:
    spec = tower.spec
    say(f"{tower.name}, made {time_text(tower.report.created)}, for the encoder {printable(spec.encoder)}")
    say(f"trained on {printable(', '.join(f'{name} {value}' for name, value in spec.trained_on.items()))}")
    if spec.neighbour_weight:
        weights = f"weight {spec.neighbour_weight:g}, times {spec.neighbour_decay:g} for each newer product"
        if spec.neighbour_options and spec.neighbour_options.half_life:
            weights += f", half-life of a choice {spec.neighbour_options.half_life:g} days"
        say(f"item neighbours: {weights}")
    say(f"card: {tower.folder / CARD_FILE}")
    show_tower_evaluation(tower, serves)


def show_tower_evaluation(tower: StoredUserTower, serves: bool) -> None:
    """Prints the measures of all recommendation methods, by groups of shoppers, and whether the tower serves."""
    report = tower.report
    table = plain_table("of whom", "method", "HR@10", "nDCG@10", right=("HR@10", "nDCG@10"))
    for part, methods in ({"all shoppers": report.methods} | dict(report.slices)).items():
        for number, method in enumerate(methods):
            table.add_row("" if number else part, method.name, f"{method.hit_rate:.4f}", f"{method.ndcg:.4f}")
    show_table(table)
    decision = "serves" if serves else "served before"
    if report.rejection_reasons:
        decision = f"was rejected: {'; '.join(report.rejection_reasons)}"
    say(f"{tower.name}, judged by {report.shoppers:,} shoppers, {decision}")


def show_expansion(expansion: StoredExpansion, serves: bool) -> None:
    """Prints learned expansions, their measures on held-out queries, and whether they serve."""
    spec, report = expansion.spec, expansion.report
    say(f"{expansion.name}, made {time_text(report.created)}: {spec.words:,} words of {spec.pairs:,} pairs")
    say(f"trained on {printable(', '.join(f'{name} {value}' for name, value in spec.trained_on.items()))}")
    table = plain_table("query word", "also matches")
    for word, terms in report.examples.items():
        table.add_row(printable(word), printable(", ".join(terms)))
    show_table(table)
    say(
        f"measured on {printable(report.measured_on)}: " + ", ".join(f"{n} {v:.4f}" for n, v in report.measures.items())
    )
    _show_reasons(report)
    if report.decision is not None:
        _show_comparisons(report.decision)
    say(f"card: {expansion.folder / CARD_FILE}")
    say("\n", (expansion.name, "bold"), " serves." if serves else " does not serve.")
