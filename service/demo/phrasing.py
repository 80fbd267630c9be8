"""How shoppers phrase things: wishes around a noun, and slips of the keyboard."""

from __future__ import annotations

from dataclasses import dataclass

from service.demo.catalog import DemoProduct
from service.demo.dice import Dice
from service.demo.grading import Wish
from service.demo.grammar import Axis, Grammar, Scalar

_VOWELS = "aeiou"
_NICE_CEILINGS = (5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 80, 100, 120, 150, 200, 250, 300, 400, 500, 600, 800, 1000)


@dataclass(frozen=True, slots=True)
class Phrased:
    """A query's text and the wishes that it puts into words."""

    text: str
    wishes: tuple[Wish, ...]


def phrase_wishes(item: DemoProduct, grammar: Grammar, dice: Dice) -> Phrased | None:
    """One to three wishes that this product grants, in words; None where its type has nothing to wish for."""
    asked = _asked_axes(item, dice)
    ceiling = _ceiling(item, dice) if dice.chance(0.4) or not asked else None
    brand = item.product.brand if dice.chance(0.15) else ""
    if not asked and ceiling is None:
        return None
    before = [_spoken(axis, value, grammar, dice) for axis, value in asked if axis.leads]
    after = [_spoken(axis, value, grammar, dice) for axis, value in asked if not axis.leads]
    wishes = [Wish(axis.name, value) for axis, value in asked]
    if ceiling is not None:
        after.append(dice.pick(grammar.ceilings).format(ceiling))
        wishes.append(Wish("price", ceiling))
    if brand:
        before.insert(0, brand.lower())
        wishes.append(Wish("brand", brand))
    return Phrased(_joined(before, _noun(item, dice).lower(), after, grammar), tuple(wishes))


def _asked_axes(item: DemoProduct, dice: Dice) -> tuple[tuple[Axis, Scalar], ...]:
    values = item.product.attributes
    known = [(axis, value) for axis in item.line.kind.axes if not isinstance(value := values[axis.name], tuple)]
    askable = [(axis, value) for axis, value in known if axis.asks and value is not False]
    return dice.some(askable, 1 + dice.below(2))


def _ceiling(item: DemoProduct, dice: Dice) -> int | None:
    price = (item.product.price or 0.0) * (1 + 0.3 * dice.unit())
    return next((bound for bound in _NICE_CEILINGS if bound >= price), None)


def _spoken(axis: Axis, value: Scalar, grammar: Grammar, dice: Dice) -> str:
    text = dice.pick(axis.asks).format(value)
    if grammar.language != "en":
        return text
    # Half of the shoppers type "mens shoes".
    return text.lower().replace("'", "") if dice.chance(0.5) else text.lower()


def _noun(item: DemoProduct, dice: Dice) -> str:
    kind = item.line.kind
    if kind.also and dice.chance(0.3):
        return dice.pick(kind.also)
    return kind.names[0] if dice.chance(0.8) else dice.pick(kind.names)


def _joined(before: list[str], noun: str, after: list[str], grammar: Grammar) -> str:
    if grammar.language == "en":
        return " ".join((*before, noun, *after))
    return " ".join(("".join((*before, noun)), *after))


def misspell(word: str, dice: Dice) -> str:
    """The word with one slip: two letters swapped, one dropped, one doubled, or another vowel."""
    at = 1 + dice.below(len(word) - 2)
    slip = dice.below(4)
    if slip == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if slip == 1:
        return word[:at] + word[at + 1 :]
    if slip == 2:
        return word[:at] + word[at] + word[at:]
    vowels = [place for place in range(1, len(word)) if word[place] in _VOWELS] or [at]
    place = dice.pick(vowels)
    return word[:place] + dice.pick([vowel for vowel in _VOWELS if vowel != word[place]]) + word[place + 1 :]
