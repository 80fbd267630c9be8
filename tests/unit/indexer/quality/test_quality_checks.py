"""Every check over products that pass, fail, or have no value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from indexer.quality.rules import QualityCheck, QualityRule, RuleScope
from retrieval.errors import SettingError
from retrieval.records import Availability, Product
from tests.quality_rows import failing, rule

DRILL = Product(
    id="a",
    title="Drill",
    brand="Bosch",
    category=("Tools", "Drills"),
    price=10.0,
    availability=Availability.IN_STOCK,
    identifiers={"sku": ("0012",)},
    attributes={"colour": "red", "length": 2.0, "width": "3.5", "tags": ("x", "y"), "new": True},
)
BARE = Product(id="b", title="Saw")


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (rule("brand", QualityCheck.NOT_NULL), ["b"]),
        (rule("brand", QualityCheck.NULL), ["a"]),
        (rule("attributes.new", QualityCheck.NOT_NULL), ["b"]),
        (rule("attributes.length", QualityCheck.BETWEEN, values=(2.0, 3.0)), []),
        (rule("attributes.length", QualityCheck.BETWEEN, values=(2.5, 3.0)), ["a"]),
        (rule("attributes.width", QualityCheck.BETWEEN, values=(4.0, 5.0)), ["a"]),
        (rule("attributes.colour", QualityCheck.IN_SET, values=("red", "blue")), []),
        (rule("attributes.colour", QualityCheck.IN_SET, values=("blue",)), ["a"]),
        (rule("attributes.tags", QualityCheck.IN_SET, values=("x, y",)), []),
        (rule("attributes.new", QualityCheck.IN_SET, values=("false",)), ["a"]),
        (rule("price", QualityCheck.NOT_IN_SET, values=(10.0,)), ["a"]),
        (rule("price", QualityCheck.NOT_IN_SET, values=(11.0,)), []),
        (rule("title", QualityCheck.REGEX, pattern="^D"), ["b"]),
        (rule("brand", QualityCheck.REGEX, pattern="^D"), ["a"]),
        (rule("title", QualityCheck.NOT_REGEX, pattern="a."), ["b"]),
        (rule("identifiers.sku", QualityCheck.REGEX, pattern=r"^\d+$"), []),
        (rule("price", QualityCheck.COMPARE, op="<", values=(10.0,)), ["a"]),
        (rule("price", QualityCheck.COMPARE, op="<=", values=(10.0,)), []),
        (rule("price", QualityCheck.COMPARE, op=">", values=(10.0,)), ["a"]),
        (rule("price", QualityCheck.COMPARE, op=">=", values=(10.5,)), ["a"]),
        (rule("price", QualityCheck.COMPARE, op="=", values=(10.0,)), []),
        (rule("attributes.colour", QualityCheck.COMPARE, op="!=", values=("red",)), ["a"]),
        (rule("attributes.length", QualityCheck.COMPARE, op=">", other="attributes.width"), ["a"]),
        (rule("attributes.length", QualityCheck.COMPARE, op=">", other="attributes.depth"), []),
        (rule("title", QualityCheck.COMPARE, op="=", other="brand"), ["a"]),
        (rule("availability", QualityCheck.COMPARE, op="!=", values=("in_stock",)), ["a"]),
    ],
    ids=lambda value: f"{value.name}-{value.op}" if isinstance(value, QualityRule) else None,
)
def test_a_check_fails_for_the_products_that_it_should(one: QualityRule, expected: list[str], tmp_path: Path) -> None:
    assert failing([DRILL, BARE], one, tmp_path) == expected


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (RuleScope("price"), ["b"]),
        (RuleScope("availability", equals="IN_STOCK"), ["b"]),
        (RuleScope("category", starts="tools > d"), ["b"]),
        (RuleScope("category", starts="Drills"), []),
        (RuleScope("brand", equals="Makita"), []),
    ],
)
def test_a_rule_with_a_condition_passes_over_other_products(
    when: RuleScope, expected: list[str], tmp_path: Path
) -> None:
    coloured, bare = DRILL, replace(DRILL, id="b", attributes={})
    assert (
        failing([coloured, bare, BARE], rule("attributes.colour", QualityCheck.NOT_NULL, when=when), tmp_path)
        == expected
    )
    red = rule("attributes.colour", QualityCheck.NOT_IN_SET, values=("red",), when=when)
    assert failing([coloured, bare, BARE], red, tmp_path) == (["a"] if expected else [])


def test_a_rule_that_the_library_cannot_evaluate_is_named(tmp_path: Path) -> None:
    impossible = rule("title", QualityCheck.BETWEEN, values=(1.0, 2.0))  # no rule file can say this
    with pytest.raises(SettingError, match="title_between"):
        failing([DRILL], impossible, tmp_path)


def test_the_value_that_fails_is_shown_beside_the_one_that_it_is_held_against(tmp_path: Path) -> None:
    from tests.quality_rows import judged

    one = rule("attributes.length", QualityCheck.COMPARE, op=">", other="attributes.width")
    (example,) = judged([DRILL], [one], tmp_path)[0].failures[one.name].examples
    assert (example.file, example.line, example.id, example.title) == ("feed.jsonl", 1, "a", "Drill")
    assert example.value == "2; attributes.width is 3.50"
