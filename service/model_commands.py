"""The commands for what was trained for an index, rankers and shopper towers: `shelfwise models list, show, compare,
rollback, off, shrink`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from retrieval.errors import UnknownRankerError
from service.options import IndexOption, JsonOption

if TYPE_CHECKING:
    from rerank.ranker.registry import Published, RankerRegistry
    from rerank.ranker.spec import Encoding
    from rerank.shoppers.registry import TowerRegistry

RankerPrecision = Literal["fp32", "int8"]

models = typer.Typer(
    name="models",
    help="The rankers and shopper towers that were trained for an index: how good each is, and which one serves.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@models.command("list", epilog="Example: shelfwise models list --index store")
def list_models(index: IndexOption = Path("store"), as_json: JsonOption = False) -> None:
    """List the rankers and shopper towers of an index: how each was judged, and which one serves."""
    import msgspec

    from rerank.ranker.ranker_list import list_rankers
    from rerank.shoppers.tower_list import list_towers
    from service.model_views import show_rankers
    from service.terminal import write_json
    from service.tower_views import show_towers

    listed = list_rankers(_registry(index), _encoding(index))
    towers = list_towers(_towers(index), *_encoder(index))
    if as_json:
        write_json(msgspec.json.encode(msgspec.to_builtins(listed) | {"shopper_towers": towers}))
        return
    show_rankers(listed, index)
    show_towers(towers, index)


@models.command(epilog="Example: shelfwise models show ranker-0003 --index store")
def show(
    ranker: Annotated[
        str, typer.Argument(help="A ranker or a shopper tower; by default the ranker that serves.", metavar="NAME")
    ] = "",
    index: IndexOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Show what a ranker or a shopper tower is, what it was trained on, and how it was judged."""
    import msgspec

    from service.model_views import show_ranker
    from service.terminal import write_json

    if _is_tower(ranker):
        _show_tower(index, ranker, as_json=as_json)
        return
    registry, encoding = _registry(index), _encoding(index)
    serving = registry.serving(encoding).ranker
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

    from service.model_comparison import compare_rankers
    from service.model_views import show_comparison
    from service.terminal import write_json

    registry, encoding = _registry(index), _encoding(index)
    later = registry.open(after or _serving(registry, index), encoding)
    compared = compare_rankers(registry.open(before or _compared_with(registry, later), encoding), later)
    write_json(msgspec.json.encode(compared)) if as_json else show_comparison(compared)


@models.command(epilog="Example: shelfwise models rollback ranker-0002 --index store")
def rollback(
    ranker: Annotated[
        str,
        typer.Argument(
            help="A ranker or a shopper tower; by default the newest ranker before the one that serves that can.",
            metavar="NAME",
        ),
    ] = "",
    index: IndexOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Let an earlier ranker or shopper tower serve again; engines that have the index open take it up by themselves."""
    import msgspec

    from service.model_views import show_model_rollback
    from service.terminal import write_json

    if _is_tower(ranker):
        _roll_back_tower(index, ranker, as_json=as_json)
        return
    done = _registry(index).rollback(ranker, _encoding(index))
    document = {"before": done.before, "ranker": done.ranker.name, "passed_over": done.passed_over}
    write_json(msgspec.json.encode(document)) if as_json else show_model_rollback(done, index)


@models.command(epilog="Example: shelfwise models off --index store")
def off(index: IndexOption = Path("store"), as_json: JsonOption = False) -> None:
    """Let no ranker serve, also none that is published later: results keep the merged order until a rollback."""
    import msgspec

    from service.model_views import show_off
    from service.terminal import write_json

    before = _registry(index).off()
    write_json(msgspec.json.encode({"before": before})) if as_json else show_off(before, index)


@models.command(epilog="Example: shelfwise models shrink ranker-0003 --heads 1 --feed-forward 64 --precision int8")
def shrink(
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

    from rerank.ranker.pruning import Left
    from service.model_views import show_shrunk
    from service.terminal import ProgressLines, write_json
    from service.training.shrinking import ShrinkOptions, shrink_ranker

    registry = _registry(index)
    options = ShrinkOptions(Left(heads, feed_forward, layers), precision, publish)
    with ProgressLines() as progress:
        parent = registry.open(ranker or _serving(registry, index), _encoding(index))
        done = shrink_ranker(index, parent, options, progress)
    document = {"ranker": done.added.ranker.name, "serves": done.added.serves, "report": done.added.ranker.report}
    document |= {"likeness": done.likeness, "before": done.before, "after": done.after}
    document |= {"removed": done.added.removed, "notices": done.added.notices}
    write_json(msgspec.json.encode(document)) if as_json else show_shrunk(done, index)


def _registry(index: Path) -> RankerRegistry:
    """The rankers of what is found to be an index directory."""
    from rerank.ranker.registry import RankerRegistry
    from retrieval.published import Store

    Store(index).check_ours()
    return RankerRegistry(index)


def _towers(index: Path) -> TowerRegistry:
    from rerank.shoppers.registry import TowerRegistry

    return TowerRegistry(index)


def _is_tower(name: str) -> bool:
    from rerank.shoppers.registry import TOWER_NAME

    return TOWER_NAME.fullmatch(name) is not None


def _encoder(index: Path) -> tuple[str, int]:
    """Identity and dimension of the index's encoder; of no encoder where that cannot be read."""
    from retrieval.published import Store
    from service.version_list import current_manifest

    manifest = current_manifest(Store(index))
    return (manifest.encoder, manifest.dimension) if manifest else ("", 0)


def _show_tower(index: Path, name: str, *, as_json: bool) -> None:
    import msgspec

    from service.terminal import write_json
    from service.tower_views import show_tower

    _registry(index)
    registry = _towers(index)
    tower = registry.open(name)
    serving = registry.serving(*_encoder(index)).tower
    serves = serving is not None and serving.name == tower.name
    document = {"name": tower.name, "serves": serves}
    document |= {"spec": tower.spec, "report": tower.report}
    write_json(msgspec.json.encode(document)) if as_json else show_tower(tower, serves=serves)


def _roll_back_tower(index: Path, name: str, *, as_json: bool) -> None:
    import msgspec

    from service.terminal import write_json
    from service.tower_views import show_tower_rollback

    done = _towers(index).rollback(name, *_encoder(index))
    document = {"before": done.before, "tower": done.tower.name}
    write_json(msgspec.json.encode(document)) if as_json else show_tower_rollback(done, index)


def _encoding(index: Path) -> Encoding | None:
    from service.version_list import stored_encoding

    return stored_encoding(index)


def _serving(registry: RankerRegistry, index: Path) -> str:
    """The ranker that serves; raises UnknownRankerError where none does, which says why."""
    from service.terminal import show_notices

    found = registry.serving(_encoding(index))
    if found.ranker is not None:
        show_notices(found.notices)
        return found.ranker.name
    there = f"name one of {', '.join(registry.names())}" if registry.names() else "train one: shelfwise train ranker"
    why = "".join(f" ({notice})" for notice in found.notices)
    raise UnknownRankerError(f"no ranker serves in {registry.store}{why}; {there}")


def _compared_with(registry: RankerRegistry, later: Published) -> str:
    """What a ranker was judged against, or the one before it; raises UnknownRankerError where there is neither."""
    names = registry.names()
    if later.report.against in names:
        return later.report.against
    older = names[: names.index(later.name)]
    if not older:
        message = f"{registry.store} has no ranker before {later.name} to compare it with; name two of its own"
        raise UnknownRankerError(message)
    return older[-1]
