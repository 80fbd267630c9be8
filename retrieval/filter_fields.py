"""The fields of a filter checked against those that a catalog has. Imported through `retrieval.filters`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from retrieval.close_names import close_names
from retrieval.errors import UnknownFieldError
from retrieval.filter_tree import And, Filter, Leaf, Not, Or

MAX_LISTED = 20


def check_fields(tree: Filter, known: Collection[str]) -> Filter:
    """The same filter with every field resolved: `colour` becomes `attributes.colour` where only that is known.

    Raises UnknownFieldError with the column and up to three close names.
    """
    names = frozenset(known)

    def resolve(node: Filter) -> Filter:
        match node:
            case Not():
                return Not(resolve(node.operand))
            case And():
                return And(tuple(map(resolve, node.operands)))
            case Or():
                return Or(tuple(map(resolve, node.operands)))
        return replace(node, field=_resolved(node, names))

    return resolve(tree)


def _resolved(leaf: Leaf, names: frozenset[str]) -> str:
    for name in (leaf.field, f"attributes.{leaf.field}"):
        if name in names:
            return name
    close = close_names(leaf.field, sorted(names), _short)
    advice = f"did you mean {' or '.join(close)}?" if close else f"known fields: {_listed(names)}"
    place = f"column {leaf.column}: " if leaf.column else ""
    raise UnknownFieldError(f"{place}no field {leaf.field!r}; {advice}", leaf.field, close)


def _short(name: str) -> str:
    return name.removeprefix("attributes.")


def _listed(names: frozenset[str]) -> str:
    shown = sorted(names)[:MAX_LISTED]
    more = f" and {len(names) - len(shown):,} more" if len(names) > len(shown) else ""
    return (", ".join(shown) or "none") + more
