"""The filter language: parsing, formatting, fields and conditions."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.errors import FilterError, UnknownFieldError
from shelfwise.retrieval.filters import conditions
from shelfwise.retrieval.filters.ast import And, Comparison, Exists, Filter, In, Not, Or, format_filter, leaves
from shelfwise.retrieval.filters.parser import parse_filter, resolve_field
from shelfwise.retrieval.filters.schema import CORE_KINDS, FieldCounter, field_values, fold_value, product_columns
from shelfwise.retrieval.records import Product
from tests import catalogs, oracle
from tests.oracle import product_values


def parsed(text: str) -> Filter:
    tree = parse_filter(text)
    assert tree is not None
    return tree


def refused(text: str) -> FilterError:
    with pytest.raises(FilterError) as caught:
        parse_filter(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("price < 100", Comparison("price", "<", 100.0)),
        ("brand = Bosch", Comparison("brand", "=", "Bosch")),
        ("brand != 'O\\'Neill'", Comparison("brand", "!=", "O'Neill")),
        ('category = "Tools > Drills"', Comparison("category", "=", "Tools > Drills")),
        ('"screen size" = 15.6', Comparison("screen size", "=", 15.6)),
        ("attributes.touchscreen = TRUE", Comparison("attributes.touchscreen", "=", True)),
        ("attributes.touchscreen = 'true'", Comparison("attributes.touchscreen", "=", "true")),
        ("price = '12'", Comparison("price", "=", "12")),
        ("model = DCD771C2/a+b_c-d.e", Comparison("model", "=", "DCD771C2/a+b_c-d.e")),
        ("品牌 = 博世", Comparison("品牌", "=", "博世")),
        ("brand = Cafe\u0301", Comparison("brand", "=", "Cafe\u0301")),
        ("created >= '2024-01-31'", Comparison("created", ">=", "2024-01-31")),
        ('colour IN (red, "dark blue", 3)', In("colour", ("red", "dark blue", 3.0))),
        ("colour not in (red)", Not(In("colour", ("red",)))),
        ("rating Exists", Exists("rating")),
        ("rating NOT EXISTS", Not(Exists("rating"))),
        ("price 10 to 20", And((Comparison("price", ">=", 10.0), Comparison("price", "<=", 20.0)))),
        ("a = 1\n\tAND\u3000b = 2", And((Comparison("a", "=", 1.0), Comparison("b", "=", 2.0)))),
        ("((a = 1))", Comparison("a", "=", 1.0)),
        ("not not a = 1", Not(Not(Comparison("a", "=", 1.0)))),
    ],
)
def test_expression_parses_to_tree(text: str, tree: Filter) -> None:
    assert parsed(text) == tree


def test_and_binds_tighter_than_or_and_not_tightest() -> None:
    a, b, c = (Comparison(name, "=", 1.0) for name in "abc")
    assert parsed("a=1 OR b=1 AND c=1") == Or((a, And((b, c))))
    assert parsed("(a=1 OR b=1) AND c=1") == And((Or((a, b)), c))
    assert parsed("NOT a=1 AND b=1 and c=1") == And((Not(a), b, c))
    assert parsed("NOT (a=1 AND b=1)") == Not(And((a, b)))


@pytest.mark.parametrize("blank", ["", " ", "\n\t\u3000"])
def test_a_blank_filter_is_no_filter(blank: str) -> None:
    assert parse_filter(blank) is None


@pytest.mark.parametrize("code", ["0095205603217", "007", "12345678901234567890", "-012", "1" + "0" * 400])
def test_code_that_a_float_would_change_is_text(code: str) -> None:
    assert parsed(f"ean = {code}") == Comparison("ean", "=", code)


@pytest.mark.parametrize(("word", "number"), [("0", 0), ("0.5", 0.5), (".5", 0.5), ("100001", 100001), ("1e+22", 1e22)])
def test_other_numbers_are_numbers(word: str, number: float) -> None:
    assert parsed(f"price = {word}") == Comparison("price", "=", float(number))


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("price < )", 9, "column 9: expected a value after '<', found ')'"),
        ("a = 1 OR", 9, "expected a field after 'OR', found the end"),
        ("a IN (1 2)", 9, "expected ')' or ',' after '1', found '2'"),
        ("a = 1 )", 7, "expected AND, OR or the end of the filter after '1', found ')'"),
        ("a = 1 b = 2", 7, "expected AND, OR or the end of the filter after '1', found 'b'"),
        ("brand = in", 9, "a keyword; in quotes it is a text"),
        ("brand Bosch", 7, "an operator (=, !=, <, <=, >, >=), IN, EXISTS or a range (10 TO 20) after 'brand'"),
        ("price 10 TO x", 13, "expected a number or a quoted text after 'TO', found 'x'"),
        ("a NOT 1", 7, "expected IN or EXISTS after 'NOT', found '1'"),
        ("'' = 2", 1, "a field's name cannot be empty"),
        ('a = 1 AND b = "x', 15, "the quote that opens here is never closed"),
        ("a = 'x\\'", 5, "the quote that opens here is never closed"),
        ("a = “x”", 5, "'“' is not allowed in a bare word; put the text in quotes"),
        ("a = \x00", 5, "expected a value after '=', found '\\x00'"),
    ],
)
def test_error_has_the_column_and_expected_tokens(text: str, column: int, words: str) -> None:
    error = refused(text)
    assert words in str(error)
    assert str(error).startswith(f"column {column}: ")
    assert error.column == column


def test_expected_tokens_are_a_tuple_and_leaves_have_columns() -> None:
    assert refused("a = 1 )").expected == ("AND", "OR", "the end of the filter")
    assert [leaf.column for leaf in leaves(parsed('a = 1\nOR ("b b" IN (2) AND c EXISTS)'))] == [1, 11, 28]


def test_filter_over_a_limit_is_refused_with_the_limit() -> None:
    assert "at most 10,000 characters; this one has 10,001" in str(refused("a = 1" + " " * 9_995 + "b"))
    assert "at most 1,000 values" in str(refused(f"a IN ({','.join('1' * 1_001)})"))
    assert "at most 1,000 values" in str(refused(" or ".join(["a=1"] * 1_001)))
    assert "nested at most 50 deep" in str(refused("(" * 51 + "a = 1" + ")" * 51))
    assert "nested at most 50 deep" in str(refused("NOT " * 51 + "a = 1"))


def test_filter_at_a_limit_is_accepted() -> None:
    assert parsed("a = 1" + " " * 9_995) == Comparison("a", "=", 1.0)
    assert parsed(f"a IN ({','.join('1' * 1_000)})") == In("a", (1.0,) * 1_000)
    assert parsed("(" * 50 + "a = 1" + ")" * 50) == Comparison("a", "=", 1.0)
    assert isinstance(parsed(" AND ".join(["(a=1)"] * 200)), And), "brackets side by side are not nested"
    assert isinstance(parsed(" AND ".join(["NOT a=1"] * 200)), And)


@pytest.mark.parametrize("depth", [1_000, 100_000])
@pytest.mark.parametrize("opening", ["(", "NOT ", "a IN ("])
def test_nesting_does_not_exhaust_the_stack(opening: str, depth: int) -> None:
    refused(opening * depth + "a = 1" + ")" * depth)


def test_name_means_a_field_before_an_attribute() -> None:
    known = {"brand", "attributes.brand", "attributes.colour"}
    assert [resolve_field(Exists(name), known) for name in ("brand", "colour")] == ["brand", "attributes.colour"]


@pytest.mark.parametrize(
    ("name", "known", "close", "message"),
    [
        ("color", {"brand", "price", "attributes.colour"}, 1, r"no field 'color'; did you mean attributes.colour\?$"),
        ("size_x", {f"size_{letter}" for letter in "abcdef"}, 3, "did you mean size_. or size_. or size_."),
        ("zzz", {"price", "brand"}, 0, "no field 'zzz'; known fields: brand, price$"),
        ("zzz", {f"field{number}" for number in range(100)}, 0, "known fields: .* and 80 more$"),
        ("zzz", set(), 0, "known fields: none$"),
    ],
)
def test_unknown_field_error_lists_similar_or_known_fields(
    name: str, known: set[str], close: int, message: str
) -> None:
    with pytest.raises(UnknownFieldError, match=f"^column 13: .*{message}") as error:
        resolve_field(Exists(name, 13), known)
    assert error.value.field == name
    assert len(error.value.close) == close


NAMES = st.one_of(st.sampled_from(["price", "attributes.colour", "in", "12", "true"]), st.text(min_size=1, max_size=8))
VALUES = st.one_of(
    st.text(max_size=10),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(10**18), 10**18).map(float),
    st.integers(0, 10**20).map(str),
    st.sampled_from(["AND", "to", "TRUE", "007", "1e+05", "-1", "a b", "\\", '"', "'"]),
)
LEAVES = st.one_of(
    st.builds(Comparison, NAMES, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), VALUES),
    st.builds(In, NAMES, st.lists(VALUES, min_size=1, max_size=4).map(tuple)),
    st.builds(Exists, NAMES),
    st.builds(
        lambda name, low, high: And((Comparison(name, ">=", low), Comparison(name, "<=", high))), NAMES, VALUES, VALUES
    ),
)
TREES: st.SearchStrategy[Filter] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=4).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=4).map(tuple)),
    ),
    max_leaves=12,
)


@given(TREES)
def test_formatting_and_parsing_gives_the_same_tree(tree: Filter) -> None:
    text = format_filter(tree)
    assert parsed(text) == tree
    assert format_filter(parsed(text)) == text, "which tells 1.0 from True"


PIECES = [*'(),=<a1"\\', "!=", " AND ", " OR ", " NOT ", " IN ", " TO ", " EXISTS ", "'b c'"]


@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=25).map("".join)))
def test_arbitrary_text_is_a_filter_or_a_filter_error(text: str) -> None:
    try:
        tree = parse_filter(text)
    except FilterError as error:
        assert 1 <= error.column <= len(text) + 1
    else:
        assert tree is None or parse_filter(format_filter(tree)) == tree


PRODUCT = Product(
    id="100001",
    title="Cordless drill",
    brand="Bosch",
    category=("Tools", "Drills", "Cordless"),
    price=99.5,
    created=datetime(2024, 1, 31, 12, tzinfo=UTC),
    identifiers={"ean": ("0095205603217", "0095205603218")},
    attributes={"colour": ("Dark Blue", "green"), "voltage": 18.0, "brushless": False, "size": "5"},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("brand = bOSCH", True),
        ("brand != bosch", False),
        ("id = 100001", True),
        ("colour = 'dark blue' AND colour = GREEN", True),
        ("colour != green", False),
        ("colour IN (red, green)", True),
        ("rating = 3", False),
        ("rating < 3", False),
        ("NOT rating < 3", True),
        ("rating EXISTS", False),
        ("voltage EXISTS", True),
        ("price 99.5 TO 100", True),
        ("price < 99.5", False),
        ("voltage = '18'", True),
        ("size = 5", True),
        ("size < 6", False),
        ("brushless = false", True),
        ("brushless = 0", False),
        ("category = drills", True),
        ("category = 'Tools > drills'", True),
        ("category = 'tools>DRILLS > cordless'", True),
        ("category = 'Tools > Drills > Cordless > More'", False),
        ("identifiers.ean = 0095205603218", True),
        ("created > '2024-01-31'", True),
        ("created > '2024-02-01'", False),
        ("created = '2024-01-31T12:00:00Z'", True),
    ],
)
def test_filter_semantics(text: str, expected: bool) -> None:
    get = product_values(PRODUCT)
    known = {*CORE_KINDS, "identifiers.ean"}
    assert oracle.matches(parsed(text), lambda name: get(name if name in known else f"attributes.{name}")) is expected


@given(products=catalogs.products(), tree=catalogs.filters())
def test_unrelated_fields_do_not_affect_the_filter(products: list[Product], tree: Filter) -> None:
    coloured = [Product("", "", attributes={"colour": value}) for value in ("red", 12.0, True)]
    catalog = counted([*products, *coloured]).catalog()
    condition = catalog.compile(tree)
    for product in products:
        known = product_columns(product, catalog.category_roots, conditions.fields_of(condition))
        assert conditions.matches(condition, known) == oracle.matches(tree, oracle.product_values(product))


def counted(products: list[Product]) -> FieldCounter:
    counter = FieldCounter()
    for product in products:
        counter.add(product)
    return counter


@given(products=catalogs.products(maximum=20), cut=st.integers(0, 20))
def test_batching_does_not_change_the_fields_of_a_catalog(products: list[Product], cut: int) -> None:
    parts = counted(products[:cut])
    parts.merge(pickle.loads(pickle.dumps(counted(products[cut:]))))
    catalog = parts.catalog()
    assert catalog == counted(products).catalog()
    kinds = {name: {kind} for name, kind in CORE_KINDS.items()}
    having: dict[str, set[str]] = {name: set() for name in CORE_KINDS}
    for product in products:
        for name, kind, _ in field_values(product):
            kinds.setdefault(name, set()).add(kind)
            having.setdefault(name, set()).add(product.id)
        if product.places:
            having["places"].add(product.id)
    assert {name: info.kinds for name, info in catalog.fields.items()} == kinds
    assert {name: info.products for name, info in catalog.fields.items()} == {
        name: len(having[name]) for name in having
    }
    assert catalog.category_roots == {fold_value(each.category[0]) for each in products if each.category}


@given(before=catalogs.products(), after=catalogs.products())
def test_kept_field_keeps_its_position(before: list[Product], after: list[Product]) -> None:
    earlier = counted(before).catalog()
    later = counted(after).catalog(earlier)
    both = earlier.fields.keys() & later.fields.keys()
    assert all(later.fields[name].slot == earlier.fields[name].slot for name in both)
    places = [info.slot for info in later.fields.values()]
    assert len(set(places)) == len(places)
