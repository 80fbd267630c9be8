"""Every cleaning rule of the table in docs/cleaning.md changes its example as the table says, and is counted."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from shelfwise.indexer.cleaning.cleaner import Cleaner
from shelfwise.indexer.cleaning.spelling import SpellingCensus
from shelfwise.retrieval.records import Product

DOCS = Path(__file__).parents[4] / "docs/cleaning.md"
SPELLING_RULES = ("brand-spelling", "category-spelling")
_ROW = re.compile(
    r"\| `(?P<name>[a-z-]+)` \| .* \| (?P<field>\w+): `(?P<before>.*)` becomes (?:`(?P<after>.*)`|nothing) \|"
)


class CleaningRule(NamedTuple):
    name: str
    field: str
    before: str
    after: str


def read_text(cell: str) -> str:
    return re.sub(r"\\u([0-9a-f]{4})", lambda code: chr(int(code[1], 16)), cell.replace("\\|", "|"))


def read_rules() -> dict[str, CleaningRule]:
    rows = [found for line in DOCS.read_text("utf-8").splitlines() if (found := _ROW.fullmatch(line))]
    return {
        row["name"]: CleaningRule(row["name"], row["field"], read_text(row["before"]), read_text(row["after"] or ""))
        for row in rows
    }


CLEANING_RULES = read_rules()


def example(rule: CleaningRule) -> Product:
    fields: dict[str, dict[str, object]] = {
        "brand": {"brand": rule.before},
        "title": {"title": rule.before},
        "description": {"description": rule.before},
        "category": {"category": tuple(rule.before.split(" / "))},
        "image": {"images": (rule.before,)},
        "ean": {"identifiers": {"ean": (rule.before,)}},
        "weight": {"attributes": {"weight": rule.before}},
        "link": {"attributes": {"link": rule.before}},
    }
    return Product(**{"id": "1", "title": "X1", **fields[rule.field]})  # type: ignore[arg-type]


def shown(rule: CleaningRule, product: Product) -> str:
    if rule.name == "language-detected":
        return f"language = {product.language}"
    if rule.name == "measures":
        return f"weight_g = {product.attributes['weight_g']:g}"
    fields = {
        "category": " / ".join(product.category),
        "image": "".join(product.images),
        "ean": "".join(product.identifiers.get("ean", ())),
        "link": str(product.attributes.get("link", "")),
    }
    return fields[rule.field] if rule.field in fields else str(getattr(product, rule.field))


@pytest.mark.parametrize(
    "rule", [rule for rule in CLEANING_RULES.values() if rule.name not in SPELLING_RULES], ids=lambda rule: rule.name
)
def test_cleaning_rule_matches_its_documented_example(rule: CleaningRule) -> None:
    cleaned = Cleaner().clean([example(rule)])
    assert shown(rule, cleaned.products[0]) == rule.after
    assert cleaned.counts[rule.name] == 1


@pytest.mark.parametrize("name", SPELLING_RULES)
def test_spelling_rule_matches_its_documented_example(name: str) -> None:
    rule = CLEANING_RULES[name]
    census = SpellingCensus()
    for text in (rule.before, rule.after, rule.after):
        census.add(Product("1", "X1", brand=text) if rule.field == "brand" else Product("1", "X1", category=(text,)))
    settled = census.normalizer().normalize_all([example(rule)])
    assert shown(rule, settled.products[0]) == rule.after
    assert settled.counts == {name: 1}


def test_counts_use_documented_rules_only() -> None:
    assert len(CLEANING_RULES) == 19
    counted: Counter[str] = Counter()
    for rule in CLEANING_RULES.values():
        counted.update(Cleaner().clean([example(rule)]).counts)
    assert counted.keys() <= CLEANING_RULES.keys()
