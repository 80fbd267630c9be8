"""Rule files: the built-in one, a store's own, and errors that name file, rule and key."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.indexer.quality.derived import InspectedProduct, identifier, is_broken_number, stock, variant_fault
from shelfwise.indexer.quality.norms import Norm
from shelfwise.indexer.quality.rules import (
    BUILT_IN,
    FIELDS,
    QualityCheck,
    QualityRule,
    RuleScope,
    Severity,
    built_in_rules,
    load_rules,
    merge_custom_rules,
    read_field,
)
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.records import Availability, Product, Variant
from tests.quality_rows import NOW, failing, rule

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
    lines = dict(line.split(" = ", 1) for line in OWN.strip().splitlines()[1:])
    lines.update(keys)
    return "[[rule]]\n" + "\n".join(f"{key} = {value}" for key, value in lines.items() if value)


def test_docs_list_every_built_in_rule() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\w+) \| (.+?) \|$", DOCS.read_text("utf-8"), re.MULTILINE)
    assert rows == [(rule.name, rule.measure, rule.severity, rule.says) for rule in built_in_rules()]


def test_custom_rules_extend_and_replace_built_in_rules(tmp_path: Path) -> None:
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
    assert (rules[2].op, rules[2].fields) == ("<", ("price", "regular_price", "category"))
    assert pickle.loads(pickle.dumps(rules)) == rules, "Worker processes get the rules of a large catalog"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("rule = 3", ["my.toml", "[[rule]]"]),
        ("[[rule", ["my.toml", "is not valid TOML"]),
        ("[[rule]]\nname = 'x'\n[other]\na = 1", ["my.toml", "[[rule]]"]),
        (changed(filed='"x"'), ["'no_colour'", "filed", "did you mean field?"]),
        (changed(pattern='"x"'), ["'no_colour'", "pattern", "'not_null'"]),
        (changed(field='"colour"'), ["'no_colour'", "field", "'colour'", "attributes.NAME"]),
        (changed(field='"titel"'), ["did you mean title?"]),
        (changed(check='"not_nul"'), ["check", "'not_nul'", "did you mean"]),
        (changed(measure='"beauty"'), ["measure", "'beauty'", "completeness"]),
        (changed(severity='"fatal"'), ["severity", "'fatal'", "error, warning, info"]),
        (changed(says=""), ["says", "is missing"]),
        (changed(name='"No Colour"'), ["name", "'No Colour'", "lower-case letters"]),
        (changed(check='"regex"', pattern='"("'), ["pattern", "not a regular expression"]),
        (changed(check='"between"', min="2", max="1"), ["min", "2"]),
        (changed(check='"between"', field='"title"', min="1", max="2"), ["'title'", "a text", "needs a number"]),
        (changed(check='"in_set"', values="[1]"), ["values", "list of texts"]),
        (changed(check='"compare"', op='"<"'), ["value", "other"]),
        (changed(check='"compare"', op='"=>"', value="1"), ["op", "'=>'"]),
        (changed(check='"compare"', op='"<"', field='"price"', other='"created"'), ["price", "created", "compared"]),
        (changed(check='"no_copies"'), ["attributes.colour", "'product'"]),
        (changed(when='{field = "price", equals = "9"}'), ["when", "'price'"]),
        (OWN + OWN, ["'no_colour'", "2 times"]),
    ],
)
def test_error_names_file_rule_and_correct_form(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(SettingError) as raised:
        load_rules(written(tmp_path, text))
    assert all(part in str(raised.value) for part in ["my.toml", *parts]), str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"nothing\.toml cannot be read"):
        load_rules(tmp_path / "nothing.toml")


def test_every_check_is_used_by_the_built_in_rules_or_documented() -> None:
    text = DOCS.read_text("utf-8")
    assert all(f"`{check.value}`" in text for check in QualityCheck)
    assert BUILT_IN.name in text


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
        (rule("price", QualityCheck.IN_SET, values=(1, 10.5)), ["a"]),
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
def test_check_fails_for_the_expected_products(one: QualityRule, expected: list[str], tmp_path: Path) -> None:
    assert failing([DRILL, BARE], one, tmp_path) == expected


def test_images_that_a_browser_does_not_show_are_found(tmp_path: Path) -> None:
    addresses = ("https://a.example/1.jpg", "http://a.example/1.jpg", "HTTP://a.example/1.jpg", "/1.jpg", "ftp://a/1")
    products = [Product(f"p{at}", "Lamp", images=(address,)) for at, address in enumerate(addresses)]
    rules = {rule.name: rule for rule in built_in_rules()}
    assert failing(products, rules["insecure_image"], tmp_path) == ["p1", "p2"]
    assert failing(products, rules["broken_image"], tmp_path) == ["p3", "p4"]


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
def test_a_rule_with_a_condition_skips_other_products(when: RuleScope, expected: list[str], tmp_path: Path) -> None:
    products = [DRILL, replace(DRILL, id="b", attributes={}), BARE]
    assert failing(products, rule("attributes.colour", QualityCheck.NOT_NULL, when=when), tmp_path) == expected
    red = rule("attributes.colour", QualityCheck.NOT_IN_SET, values=("red",), when=when)
    assert failing(products, red, tmp_path) == (["a"] if expected else [])


def test_a_rule_that_cannot_be_evaluated_is_named(tmp_path: Path) -> None:
    impossible = rule("title", QualityCheck.BETWEEN, values=(1.0, 2.0))  # a rule file cannot contain this
    with pytest.raises(SettingError, match="title_between"):
        failing([DRILL], impossible, tmp_path)


def test_finding_shows_the_value_and_the_reference(tmp_path: Path) -> None:
    from tests.quality_rows import judged

    one = rule("attributes.length", QualityCheck.COMPARE, op=">", other="attributes.width")
    (example,) = judged([DRILL], [one], tmp_path)[0].failures[one.name].examples
    assert (example.file, example.line, example.id, example.title) == ("feed.jsonl", 1, "a", "Drill")
    assert example.value == "2; attributes.width is 3.50"


def check_digit(body: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(body)):
        total += int(digit) * (3 if place % 2 == 0 else 1)
    return str((10 - total % 10) % 10)


@given(st.sampled_from((7, 11, 12, 13)).flatmap(lambda size: st.text("0123456789", min_size=size, max_size=size)))
def test_identifier_is_valid_with_one_check_digit_only(body: str) -> None:
    right = check_digit(body)
    assert [is_broken_number("gtin", body + digit) for digit in "0123456789"] == [
        digit != right for digit in "0123456789"
    ]


@pytest.mark.parametrize(
    ("kind", "number", "expected"),
    [
        ("ean", "4006381333931", False),
        ("upc", "036000291452", False),
        ("upc", "36000291452", True),
        ("ean", "12345", True),
        ("ean", "400638133393X", True),
        ("ean", "", True),
        ("ean", "٤٠٠٦٣٨١٣٣٣٩٣١", True),
        ("isbn", "0-306-40615-3", True),
        ("isbn", "080442957X", False),
        ("isbn", "X804429570", True),
    ],
)
def test_published_gtin_examples_are_valid(kind: str, number: str, expected: bool) -> None:
    assert is_broken_number(kind, number) is expected


def test_first_invalid_identifier_is_shown_with_its_kind() -> None:
    product = Product("a", "A", identifiers={"ean": ("4006381333931", "1"), "upc": ("2",), "sku": ("3",)})
    assert read("broken_gtin", product) == "ean 1"
    assert read("gtin", product) == "4006381333931"


def read(field: str, product: Product, *, guessed: bool = False) -> object:
    return read_field(field, FIELDS[field].kind, InspectedProduct(product, Norm(), guessed, NOW))


@pytest.mark.parametrize("name", ["stock", "Stock", "quantity", "Variant Inventory Qty", "stock_quantity"])
@pytest.mark.parametrize(("value", "expected"), [(-3.0, -3.0), ("-3", -3), ("4.5 ", 4.5), ("many", None), (True, None)])
def test_stock_is_found_under_common_names(name: str, value: float | str, expected: float | None) -> None:
    assert stock(Product("a", "A", attributes={"colour": "red", name: value})) == expected


def test_sku_is_not_a_global_identifier() -> None:
    assert identifier(Product("a", "A", identifiers={"sku": ("1",)})) is None
    assert identifier(Product("a", "A", identifiers={"sku": ("1",), "mpn": ("M1",)})) == "M1"


def variants(*given_: tuple[str, dict[str, str], float | None]) -> tuple[Variant, ...]:
    return tuple(Variant(name, options, price) for name, options, price in given_)


@pytest.mark.parametrize(
    ("price", "given_", "expected"),
    [
        (None, (), None),
        (5.0, (("1", {"size": "S"}, 5.0), ("2", {"size": "M"}, 6.0)), None),
        (5.0, (("1", {"size": "S"}, 5.0), ("1", {"size": "M"}, 6.0)), "two variants have the id 1"),
        (5.0, (("1", {"size": "S"}, 5.0), ("2", {"size": "S"}, 6.0)), "two variants have the same options: size S"),
        (5.0, (("1", {"size": "S"}, 5.0), ("2", {"hue": "M"}, 6.0)), "not every variant names the same options"),
        (5.0, (("1", {"size": "S"}, 5.0), ("2", {"size": "M"}, None)), "some variants have a price, some have none"),
        (5.0, (("1", {"size": "S"}, 5.0), ("2", {"size": "M"}, 600.0)), "prices from 5.00 to 600.00"),
        (9.0, (("1", {"size": "S"}, 5.0),), "the product costs 9.00, its cheapest variant 5.00"),
    ],
)
def test_inconsistent_variants_are_found(
    price: float | None, given_: tuple[tuple[str, dict[str, str], float | None], ...], expected: str | None
) -> None:
    assert variant_fault(Product("a", "A", price=price, variants=variants(*given_))) == expected


def titled(title: str, language: str) -> Product:
    return Product("a", title, language=language)


@pytest.mark.parametrize(
    ("product", "expected"),
    [
        (titled("Pfanne mit Deckel mit Griff", "en"), "de, declared en"),
        (titled("Pan with lid with grip", "en"), None),
        (titled("Pan with lid mit", "en"), None),  # invented words resemble any language: both halves must agree
        (titled("HP 3200", "en"), None),
        (titled("Pfanne mit Deckel mit Griff", ""), None),
    ],
)
def test_title_in_undeclared_language_is_found(product: Product, expected: str | None) -> None:
    assert read("other_language", product) == expected


def test_detected_language_is_not_compared_with_itself() -> None:
    assert read("other_language", titled("Pfanne mit Deckel mit Griff", "en"), guessed=True) is None


def test_a_chinese_character_counts_as_three_letters() -> None:
    assert read("title_length", Product("a", "电钻")) == 6
