"""Every rule does to its example what the table says, is counted, and stands in the docs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from indexer.cleaning.cleaner import Cleaner
from indexer.cleaning.rules import CLEANING_RULES, CleaningRule
from indexer.cleaning.spelling import SpellingCensus
from retrieval.records import Product

DOCS = Path(__file__).parents[4] / "docs/cleaning.md"
SETTLED = ("brand-spelling", "category-spelling")


def example(rule: CleaningRule) -> Product:
    fields: dict[str, dict[str, object]] = {
        "brand": {"brand": rule.before},
        "title": {"title": rule.before},
        "description": {"description": rule.before},
        "category": {"category": tuple(rule.before.split(" / "))},
        "image": {"images": (rule.before,)},
        "ean": {"identifiers": {"ean": (rule.before,)}},
        "weight": {"attributes": {"weight": rule.before}},
        "currency": {"currency": rule.before},
        "language": {"language": rule.before},
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
    }
    return fields[rule.field] if rule.field in fields else str(getattr(product, rule.field))


@pytest.mark.parametrize(
    "rule", [rule for rule in CLEANING_RULES.values() if rule.name not in SETTLED], ids=lambda rule: rule.name
)
def test_a_rule_makes_of_its_example_what_the_table_says_and_counts_it(rule: CleaningRule) -> None:
    cleaned = Cleaner().clean([example(rule)])
    assert shown(rule, cleaned.products[0]) == rule.after
    assert cleaned.counts[rule.name] == 1


@pytest.mark.parametrize("name", SETTLED)
def test_a_spelling_rule_makes_of_its_example_what_the_table_says_and_counts_it(name: str) -> None:
    rule = CLEANING_RULES[name]
    census = SpellingCensus()
    for text in (rule.before, rule.after, rule.after):
        census.add(Product("1", "X1", brand=text) if rule.field == "brand" else Product("1", "X1", category=(text,)))
    settled = census.normalizer().normalize_all([example(rule)])
    assert shown(rule, settled.products[0]) == rule.after
    assert settled.counts == {name: 1}


def written(text: str) -> str:
    """A text as a table shows it."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text).replace("|", "\\|")


def row(rule: CleaningRule) -> str:
    """The rule's line in the docs."""
    before, after = f"`{written(rule.before)}`", f"`{written(rule.after)}`" if rule.after else "nothing"
    return f"| `{rule.name}` | {rule.fields} | {written(rule.does)} | {rule.field}: {before} becomes {after} |"


def test_the_docs_list_every_rule_as_the_table_has_it_and_no_other() -> None:
    lines = [line for line in DOCS.read_text("utf-8").splitlines() if line.startswith("| `")]
    assert lines == [row(rule) for rule in CLEANING_RULES.values()]


def test_counts_name_rules_of_the_table_only() -> None:
    counted: Counter[str] = Counter()
    for rule in CLEANING_RULES.values():
        counted.update(Cleaner().clean([example(rule)]).counts)
    assert counted.keys() <= CLEANING_RULES.keys()
