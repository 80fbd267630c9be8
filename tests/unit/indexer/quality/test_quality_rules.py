"""Rule files: the built-in one, a store's own, and what is wrong with a file said by file, rule and key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from indexer.quality.rules import (
    BUILT_IN,
    Measure,
    QualityCheck,
    RuleScope,
    Severity,
    built_in_rules,
    load_rules,
    merge_custom_rules,
)
from retrieval.errors import SettingError

DOCS = Path(__file__).parents[4] / "docs" / "quality.md"
OWN = """
[[rule]]
name = "no_colour"
measure = "completeness"
severity = "warning"
field = "attributes.colour"
check = "not_null"
when = {field = "category", starts = "Clothing"}
says = "has no colour"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "my.toml"
    path.write_text(text, "utf-8")
    return path


def changed(**keys: str) -> str:
    """The own rule with some keys replaced (or added) by TOML values, removed where empty."""
    lines = dict(line.split(" = ", 1) for line in OWN.strip().splitlines()[1:])
    lines.update(keys)
    return "[[rule]]\n" + "\n".join(f"{key} = {value}" for key, value in lines.items() if value)


def test_there_are_about_forty_built_in_rules_over_all_measures() -> None:
    rules = built_in_rules()
    assert len(rules) >= 30
    assert {rule.measure for rule in rules} == set(Measure)
    assert {rule.severity for rule in rules} == set(Severity)
    assert all(rule.advice for rule in rules)


def test_the_docs_list_every_built_in_rule_as_it_is() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\w+) \| (.+?) \|$", DOCS.read_text("utf-8"), re.MULTILINE)
    assert rows == [(rule.name, rule.measure, rule.severity, rule.says) for rule in built_in_rules()]


def test_own_rules_come_on_top_and_replace_built_in_ones_of_their_name(tmp_path: Path) -> None:
    own = OWN + changed(name='"no_image"', field='"image"', severity='"error"', when="")
    rules = {rule.name: rule for rule in merge_custom_rules(written(tmp_path, own))}
    assert len(rules) == len(built_in_rules()) + 1
    assert rules["no_image"].severity is Severity.ERROR
    assert rules["no_colour"].when == RuleScope("category", starts="Clothing")


def test_the_operands_of_every_check_are_read(tmp_path: Path) -> None:
    between = changed(name='"a"', field='"attributes.length"', check='"between"', min="1", max="2.5")
    inset = changed(name='"b"', check='"in_set"', values='["red", "blue"]')
    compare = changed(name='"c"', field='"price"', check='"compare"', op='"<"', other='"regular_price"')
    value = changed(name='"d"', field='"attributes.length"', check='"compare"', op='">"', value="3", when="")
    rules = load_rules(written(tmp_path, "\n".join([between, inset, compare, value])))
    assert [rule.values for rule in rules] == [(1.0, 2.5), ("red", "blue"), (), (3.0,)]
    assert (rules[2].op, rules[2].other, rules[2].fields) == (
        "<",
        "regular_price",
        ("price", "regular_price", "category"),
    )


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("rule = 3", ["my.toml", "[[rule]]"]),
        ("[[rule", ["my.toml", "no TOML file"]),
        ("[[rule]]\nname = 'x'\n[other]\na = 1", ["my.toml", "[[rule]]"]),
        (changed(filed='"x"'), ["'no_colour'", "filed", "did you mean field?"]),
        (changed(pattern='"x"'), ["'no_colour'", "pattern", "'not_null'"]),
        (changed(field='"colour"'), ["'no_colour'", "field", "'colour'", "attributes.NAME"]),
        (changed(field='"attributes."'), ["'attributes.'"]),
        (changed(field='"titel"'), ["did you mean title?"]),
        (changed(check='"not_nul"'), ["check", "'not_nul'", "did you mean"]),
        (changed(measure='"beauty"'), ["measure", "'beauty'", "completeness"]),
        (changed(severity='"fatal"'), ["severity", "'fatal'", "error, warning, info"]),
        (changed(says=""), ["says", "is missing"]),
        (changed(name='"No Colour"'), ["name", "'No Colour'", "small letters"]),
        (changed(check='"regex"', pattern='"("'), ["pattern", "no regular expression"]),
        (changed(check='"between"', min="2", max="1"), ["min", "2"]),
        (changed(check='"between"', min='"a"', max="1"), ["min", "'a'", "number"]),
        (changed(check='"between"', field='"title"', min="1", max="2"), ["'title'", "a text", "takes a number"]),
        (changed(check='"regex"', field='"price"', pattern='"a"'), ["'price'", "a number", "takes a text"]),
        (changed(check='"in_set"', values="[]"), ["values", "list of texts"]),
        (changed(check='"in_set"', values="[1]"), ["values", "list of texts"]),
        (changed(check='"compare"', op='"<"'), ["value", "other"]),
        (changed(check='"compare"', op='"=>"', value="1"), ["op", "'=>'"]),
        (changed(check='"compare"', op='"<"', field='"price"', other='"created"'), ["price", "created", "compared"]),
        (changed(check='"no_copies"'), ["attributes.colour", "'product'"]),
        (changed(when='{field = "brand", is = "x"}'), ["when", "'is'"]),
        (changed(when='{field = "price", equals = "9"}'), ["when", "'price'"]),
        (changed(when="3"), ["when", "expected a field"]),
        (OWN + OWN, ["'no_colour'", "2 times"]),
    ],
)
def test_a_fault_is_said_with_the_file_the_rule_and_what_is_right(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(SettingError) as raised:
        load_rules(written(tmp_path, text))
    assert all(part in str(raised.value) for part in ["my.toml", *parts]), str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"nothing\.toml: cannot be read"):
        load_rules(tmp_path / "nothing.toml")


def test_every_check_is_used_by_the_built_in_rules_or_documented() -> None:
    text = DOCS.read_text("utf-8")
    assert all(f"`{check.value}`" in text for check in QualityCheck)
    assert BUILT_IN.name in text
