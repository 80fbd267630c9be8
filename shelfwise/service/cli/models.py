"""Trained rankers, user towers and expansions: `models list`, `show`, `rollback`, `off`, `prune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.text import Text
from typer import Argument, Option

from shelfwise.rerank import model_store
from shelfwise.rerank.evaluation.promotion import NDCG
from shelfwise.rerank.expansions import expansion_store
from shelfwise.rerank.model_card import read_card
from shelfwise.rerank.model_store import DEFAULT_MODEL, AddResult, ModelEntry, ModelStore, RollbackResult, StoredModel
from shelfwise.rerank.ranker.spec import RANKERS, RankerStore, ranker_store
from shelfwise.rerank.user_tower.files import user_tower_store
from shelfwise.retrieval.errors import UnknownModelError
from shelfwise.retrieval.value_texts import printable, size_text
from shelfwise.service.cli.options import PublishedIndex, command
from shelfwise.service.cli.output import TerminalProgress, emit, say, show_notices, show_rows, time_text
from shelfwise.service.engine.served_models import model_store_of
from shelfwise.service.engine.versions import stored_encoding

if TYPE_CHECKING:
    from shelfwise.service.training.ranker_pruning import PruningResult


@command("models list store")
def list_models(index: PublishedIndex) -> None:
    """List the rankers, user towers and expansions of an index, with their evaluations, and mark the serving ones."""
    encoding = stored_encoding(index)
    stores: list[ModelStore[Any]] = [ranker_store(index), user_tower_store(index), expansion_store(index)]
    listed = [model_store.list_models(store, encoding) for store in stores]
    rankers, towers, expansions = (
        each.to_document(key) for each, key in zip(listed, ("rankers", "towers", "expansions"), strict=True)
    )
    document = rankers | {"user_towers": towers, "expansions": expansions}
    emit(list(zip(stores, listed, strict=True)), _show_models, document=document)


@command("models show store ranker-0003")
def show(
    index: PublishedIndex,
    name: Annotated[str, Argument(help="A model of any kind; by default the serving ranker.", metavar="MODEL")] = "",
) -> None:
    """Print a model's card, as Markdown: its training data and options, its evaluation, and its limits."""
    encoding = stored_encoding(index)
    store = model_store_of(index, name)
    model = store.open(name or _serving(ranker_store(index)), encoding)
    serving = store.serving(encoding).model
    serves = serving is not None and serving.name == model.name
    document = {"name": model.name, "serves": serves, "spec": model.spec, "report": model.report}
    emit(model, _show_card, document=document)


@command("models rollback store ranker-0002")
def rollback(
    index: PublishedIndex,
    name: Annotated[
        str,
        Argument(
            help="A model of any kind; by default the newest usable ranker before the serving one.", metavar="MODEL"
        ),
    ] = "",
) -> None:
    """Make an earlier model serve again. Open engines reload it by themselves."""
    store = model_store_of(index, name)
    done = store.rollback(name, stored_encoding(index))
    document: dict[str, object] = {"before": done.previous, store.family.noun: done.model.name}
    if store.family is RANKERS:
        document["passed_over"] = done.passed_over
    emit(done, _show_rollback, index, document=document)


@command("models off store")
def off(
    index: PublishedIndex,
    expansions: Annotated[bool, Option("--expansions", help="Switch off learned expansions, not rankers.")] = False,
) -> None:
    """Switch rankers off, including those published later: results keep the merged order until a rollback."""
    store: ModelStore[Any] = expansion_store(index) if expansions else ranker_store(index)
    emit({"before": store.off()}, _show_off, store)


@command("models prune store ranker-0003 --heads 1 --feed-forward 64 --precision int8")
def prune(
    index: PublishedIndex,
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
    from shelfwise.rerank.ranker.pruning import PruningTarget  # torch is slow to load
    from shelfwise.service.training.ranker_pruning import RankerPruningOptions, prune_ranker

    registry = ranker_store(index)
    options = RankerPruningOptions(PruningTarget(heads, feed_forward, layers), precision, publish)
    with TerminalProgress() as progress:
        parent = registry.open(ranker or _serving(registry), stored_encoding(index))
        done = prune_ranker(index, parent, options, progress)
    document = ranker_document(done.added) | {"agreement": done.agreement, "before": done.before, "after": done.after}
    emit(done, _show_pruning, index, document=document)


def ranker_document(result: AddResult[Any]) -> dict[str, object]:
    """The JSON of a newly stored ranker."""
    document: dict[str, object] = {"ranker": result.model.name, "serves": result.serves, "report": result.model.report}
    return document | {"removed": result.removed, "notices": result.notices}


def _serving(registry: RankerStore) -> str:
    """The serving ranker; raises UnknownModelError with the reason if there is none."""
    serving = registry.serving(stored_encoding(registry.root))
    if serving.model is not None:
        show_notices(serving.notices)
        return serving.model.name
    cure = f"name one of {', '.join(registry.names())}" if registry.names() else "train one: shelfwise train ranker"
    why = "".join(f" ({notice})" for notice in serving.notices)
    raise UnknownModelError(f"no ranker serves in {registry.root}{why}; {cure}")


def _show_models(families: list[tuple[ModelStore[Any], model_store.ModelList[Any]]]) -> None:
    for store, listed in families:
        family = store.family
        names = "", family.noun, "made", NDCG, "decision", "size"
        rows = [_row(entry) for entry in reversed(listed.models)]
        show_rows(names, rows, empty=f"No {family.noun} yet. To train one: {family.train}")
        for entry in reversed(listed.models):
            if entry.problem:
                say(f"{entry.name} cannot be used: {printable(entry.problem)}", style="red")
            elif entry.report is not None and entry.is_rejected:
                say(f"{entry.name} was rejected: {printable('; '.join(entry.report.rejection_reasons))}")
            elif entry.misfit:
                say(f"{entry.name} is for another index: {printable(entry.misfit)}")
        show_notices(map(printable, listed.notices))
        if listed.is_off:
            say(f"{family.noun}s are switched off: {family.fallback}; to switch them on: shelfwise models rollback")
        elif not listed.serving and listed.models:
            say(f"No {family.noun} serves: {family.fallback}.")
        elif listed.serving == DEFAULT_MODEL:
            say(f"{DEFAULT_MODEL}, the shipped {family.noun}, serves.")


def _row(entry: ModelEntry[Any]) -> tuple[str | float | Text | None, ...]:
    mark = Text("▶" if entry.serves else "", style="bold green")
    size = size_text(entry.bytes)
    report = entry.report
    if report is None:
        return mark, entry.name, "", None, Text("unusable", style="red"), size
    ndcg = report.measures.get(NDCG)
    decision = Text("rejected", style="yellow") if entry.is_rejected else "published"
    return mark, entry.name, time_text(report.created), ndcg, decision, size


def _show_card(model: StoredModel[Any]) -> None:
    say(read_card(model.folder).rstrip())


def show_training(result: AddResult[Any], index: Path) -> None:
    """Prints the card of a trained model, and whether it serves."""
    name, report = result.model.name, result.model.report
    _show_card(result.model)
    say("\n", (name, "bold"), " serves." if result.serves else " does not serve.")
    if result.serves and report.against.startswith("ranker-"):
        say(_undo(report.against, index))
    _show_removed(result)


def _show_removed(result: AddResult[Any]) -> None:
    if result.removed:
        say(f"Removed as the oldest: {', '.join(result.removed)}")
    show_notices(result.notices)


def _show_pruning(result: PruningResult, index: Path) -> None:
    ranker = result.added.model
    before = ranker.report.against
    agreement = result.agreement
    sizes = ((before, result.before), (ranker.name, result.after))
    show_rows(("", "graph"), [(name, size_text(size)) for name, size in sizes])
    say(
        f"On {agreement.queries:,} synthetic queries: agreement {agreement.agreement:.4f} "
        f"(nDCG@10 by the scores of {before}), {agreement.first_ten:.1%} of its first ten hits stay."
    )
    if result.added.serves:
        say(f"{ranker.name} serves. {_undo(before, index)}")
    elif ranker.report.rejection_reasons:
        say(f"{ranker.name} was not published; to publish it: the same command with --publish")
    _show_removed(result.added)


def _show_rollback(result: RollbackResult[Any], index: Path) -> None:
    show_notices(result.passed_over)
    if result.model.name == result.previous:
        say((result.previous, "bold"), " already serves.")
        return
    say((result.model.name, "bold"), f" serves: made {time_text(result.model.report.created)}.")
    if result.previous:
        say(_undo(result.previous, index))


def _show_off(document: dict[str, str], store: ModelStore[Any]) -> None:
    say(f"No {store.family.noun} serves: {store.family.fallback}.")
    if before := document["before"]:
        say(f"{before} is kept; to let it serve again: shelfwise models rollback {store.root} {before}")


def _undo(before: str, index: Path) -> str:
    return f"{before} is kept; to go back to it: shelfwise models rollback {index} {before}"
