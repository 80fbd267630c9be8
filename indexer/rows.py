"""One decoded row of a feed to one Product, by a mapping.

What becomes of a value that cannot be used:

| field                                | of another type   | of the right type, but not usable                       |
|--------------------------------------|-------------------|---------------------------------------------------------|
| id                                   | row set aside     | missing, blank, over 512 bytes, control characters: row |
| title                                | row set aside     | missing or blank: row set aside                         |
| price                                | row set aside     | no number, negative, NaN, infinite: row set aside       |
| description, brand, category, images | row set aside     | every text is usable                                    |
| identifiers                          | row set aside     | a number that is not finite: dropped with a note        |
| currency, language                   | row set aside     | no code that is known: dropped with a note              |
| availability                         | row set aside     | an unknown word: dropped with a note                    |
| rating                               | row set aside     | no number, NaN, outside 0 to 5: dropped with a note     |
| rating_count                         | row set aside     | no whole number from 0: dropped with a note             |
| created, updated, expires            | row set aside     | not a date: dropped with a note                         |
| attributes                           | row set aside     | NaN, lists of objects, too deep: dropped with a note    |

A null, a blank text, an empty list and an empty object are no value: the next name of the mapping is tried. A field of
the row that no rule took becomes an attribute, with three exceptions: a name known for a product field is left out when
it says the same as the one that was taken; a `name` beside the title becomes the identifier "model" when it looks like
a model number (a digit, no blanks), and is left out when the title holds it; and the price beside a sale price becomes
the attribute "regular_price". A sale price counts only inside the period that the row gives for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from indexer.attributes import Note
from indexer.mapping import FeedMapping
from indexer.reading import Plan, Reading, value_at
from retrieval.records import Product

MAX_NAMES = 10_000
"""How many names of rows are kept, to say what a misspelled one may have meant."""
_MAX_PLANS = 1_000


class RowReader:
    """Makes products of rows by one mapping, and remembers which of the user's names no row has had.

    `now` is the time that decides which sale prices hold.
    """

    def __init__(self, mapping: FeedMapping, now: datetime) -> None:
        self.unseen = set(mapping.asked)
        self.names: set[str] = set()
        """The names of the rows, gathered while some of the user's are still unseen."""
        self._now = now
        self._rules = {target: rule for target, rule in mapping.rules.items() if rule.sources or rule.value is not None}
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._targets: dict[str, str] = {}
        for target, rule in self._rules.items():
            for source in rule.sources:
                self._targets.setdefault(source.name, target)

    def _plan(self, row: Mapping[str, object]) -> Plan:
        """The rules that can say something about a row. Feeds have few sets of names, so each is worked out once."""
        names = tuple(row)
        plan = self._plans.get(names)
        if plan is None:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            plan = self._plans[names] = Plan(self._rules, self._targets, frozenset(names))
        return plan

    def read(self, row: Mapping[str, object], note: Note) -> Product:
        """The product of a row. Raises RowError when the row has to be set aside."""
        if self.unseen:
            if len(self.names) < MAX_NAMES:
                self.names.update(row)
            self.unseen = {name for name in self.unseen if value_at(row, name) is None and name not in row}
        plan = self._plan(row)
        reading = Reading(plan, row, note)
        identity, title = reading.identity(), reading.title()
        amount, currency = reading.price(self._now) if plan.has_price else (None, "")
        found: dict[str, Any] = reading.singles()
        for target, parse in plan.parsers:
            if (value := reading.optional(target, parse)) is not None:
                found[target] = value
        if currency and "currency" not in found:
            found["currency"] = currency
        if plan.has_images:
            found["images"] = reading.images()
        identifiers = reading.identifiers(title)
        attributes = reading.attributes(title)  # the last: what nothing else took
        return Product(identity, title, price=amount, identifiers=identifiers, attributes=attributes, **found)
