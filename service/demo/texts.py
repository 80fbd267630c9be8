"""Titles, descriptions and prices as a store writes them."""

from __future__ import annotations

import re

from service.demo.dice import Dice
from service.demo.grammar import Axis, Grammar, Scalar
from service.demo.lines import Line, Variant

_BLANKS = re.compile(r"\s+")
_BEFORE_COMMA = re.compile(r"\s+([,)])")


def title(line: Line, variant: Variant, grammar: Grammar) -> str:
    """The variant's title: always what sets it apart from its siblings, not always the rest."""
    told = [(axis, value) for axis, value in line.fixed if axis.name in line.told]
    text = line.style.format(
        brand=line.brand.name,
        series=line.series,
        model=line.model if line.kind.technical else "",
        name=line.name,
        point=line.point,
        lead=_spelled(told, line, grammar, " "),
        tail=_spelled(variant, line, grammar, ", " if grammar.language == "en" else " "),
    )
    return _BEFORE_COMMA.sub(r"\1", _BLANKS.sub(" ", text)).strip(" ,-").removesuffix("()").strip()


def _spelled(values: list[tuple[Axis, Scalar]] | Variant, line: Line, grammar: Grammar, between: str) -> str:
    shown = (axis.shown(_shaded(value, line.shade, grammar)) for axis, value in values)
    return between.join(text for text in shown if text)


def _shaded(value: Scalar, shade: int, grammar: Grammar) -> Scalar:
    finer = grammar.shades.get(value) if isinstance(value, str) and shade >= 0 else None
    return finer[shade] if finer else value


def description(line: Line, variant: Variant, grammar: Grammar) -> str:
    """Two facts, what is known of the attributes, and the department's closing sentence."""
    known = (*variant, *line.fixed)
    told = [
        grammar.labels[axis.name].format(value)
        for axis, value in known
        if axis.name in grammar.labels and not isinstance(value, bool)
    ]
    between = " " if grammar.language == "en" else ""
    return between.join((*line.facts, *told[:3], line.closing))


def store_price(amount: float, currency: str, dice: Dice) -> float:
    """The amount as stores like to print it: 24.99, 129.00, 199, 39.9."""
    whole = max(1, round(amount))
    if currency == "CNY":
        return whole - 0.1 if whole < 50 and dice.chance(0.6) else float(_ending_in_nine(whole, dice))
    return whole - dice.pick((0.01, 0.01, 0.51, 0.0)) if whole < 100 else whole - dice.pick((0.01, 0.0))


def _ending_in_nine(whole: int, dice: Dice) -> int:
    return whole // 10 * 10 + 9 if dice.chance(0.7) else whole
