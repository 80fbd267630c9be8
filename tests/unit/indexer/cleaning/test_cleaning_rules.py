"""Cleaning by languages, rules, and what a census of the feed shows."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.indexer.cleaning.cleaner import clean_products
from shelfwise.indexer.cleaning.language import detect
from shelfwise.indexer.cleaning.spelling import (
    SpellingCensus,
    SpellingCounter,
    SpellingNormalizer,
    brand_key,
    level_key,
)
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
    cleaned = clean_products([example(rule)])
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


@pytest.mark.parametrize(
    ("title", "language"),
    [
        ("Cordless drill driver 18V with two batteries and case", "en"),
        ("Women's winter jacket with hood", "en"),
        ("Damen Winterjacke wasserdicht mit Kapuze", "de"),
        ("Klappbarer Campingstuhl", "de"),
        ("Perceuse visseuse sans fil 18V avec deux batteries", "fr"),
        ("Imprimante multifonction pour le bureau", "fr"),
        ("Abrigo de invierno para mujer con capucha", "es"),
        ("Trapano avvitatore a batteria 18V con valigetta", "it"),
        ("Winterjas voor dames met capuchon", "nl"),
        ("Luminária de mesa LED com fio", "pt"),
        ("Kurtka zimowa damska z kapturem", "pl"),
        ("Mobilskal till Samsung Galaxy genomskinligt", "sv"),
        ("得力电钻家用充电式手电钻", "zh"),
        ("Bosch 电动工具套装 12V", "zh"),
        ("コードレスドリル 18V", "ja"),
        ("무선 드릴 18V", "ko"),
        ("Чайник электрический, чёрный", "ru"),
        ("Шуруповерт акумуляторний із двома батареями", "uk"),
        ("Κατσαβίδι μπαταρίας 18V", "el"),
        ("مثقاب لاسلكي 18 فولت", "ar"),
        ("สว่านไร้สาย 18V", "th"),
    ],
)
def test_language_of_a_title_is_detected(title: str, language: str) -> None:
    assert detect(title) == language


WITHOUT_LANGUAGE = (
    "GSR 12V-15|HP EliteBook 840 G5|iPhone 12 Pro Max|006R90321|Bosch|Le Creuset|10 kΩ||-|Samsung Galaxy Black|"
    "Nike Air Max 90|Philips Hue|1/2 in. x 4 in.|Apple iPhone 15 Pro Max Silicone 壳|"
    "Skruemaskine med to batterier og taske|Zahradní hadice s tryskou|Şarjlı matkap|Mașină de găurit cu acumulator"
)


@pytest.mark.parametrize("title", WITHOUT_LANGUAGE.split("|"))
def test_language_of_ambiguous_titles_is_unknown(title: str) -> None:
    assert detect(title) == ""


_BRAND_LIST = "Bosch|BOSCH|Bosch GmbH|bosch|Böhm|Bohm|Max Pro|MaxPro||3M|牧田|牧田有限公司"
BRANDS = _BRAND_LIST.split("|")
LEVELS = ("Tools", "tools", "TOOLS", "Power Tools", "power-tools", "Café", "Cafe")
made_products = st.lists(
    st.builds(
        Product,
        id=st.just("1"),
        title=st.just("x"),
        brand=st.sampled_from(BRANDS),
        category=st.lists(st.sampled_from(LEVELS), max_size=2).map(tuple),
    ),
    max_size=30,
)


def census_of(products: list[Product], most: int = 200_000) -> SpellingCensus:
    census = SpellingCensus(most)
    for product in products:
        census.add(product)
    return census


def branded(*brands: str) -> list[Product]:
    return [Product("1", "x", brand=brand) for brand in brands]


@pytest.mark.parametrize(
    "brands",
    [
        ("Bosch", "BOSCH", "Bosch GmbH", "bosch gmbh & co. kg"),
        ("Black & Decker", "BLACK+DECKER", "Black and Decker", "Black & Decker Inc."),
        ("Nestlé", "Nestle", "NESTLÉ S.A."),
        ("Coca-Cola", "Coca Cola", "CocaCola", "Coca-Cola Co."),
        ("小米", "小米有限公司"),
        ("ソニー", "ソニー株式会社", "株式会社ソニー"),
        ("Grundfos", "Grundfos A/S"),
        ("Intel", "Intel®", "Intel Corporation"),
    ],
)
def test_spellings_of_one_brand_have_one_key(brands: tuple[str, ...]) -> None:
    assert len(set(map(brand_key, brands))) == 1


PAIRS = "Bosch Bosh|H&M HM|C# C|A+ A|Canon Cannon|AG SA|Co Ltd|- --|Costa Cos|Sega Seg|Metabo Meta"


@pytest.mark.parametrize("pair", PAIRS.split("|"))
def test_two_brands_have_two_keys(pair: str) -> None:
    assert len(set(map(brand_key, pair.split()))) == 2


def test_levels_keep_plurals_and_legal_forms_apart() -> None:
    assert level_key("Power Tools") == level_key("POWER-TOOLS") != level_key("Power Tool")
    assert level_key("Tools Inc") != level_key("Tools")


def test_the_commonest_spelling_wins_and_of_equal_ones_the_first() -> None:
    settler = census_of(branded("BOSCH", "Bosch", "Bosch", "bosch GmbH", "sony", "SONY")).normalizer()
    settled = [settler.normalize(each).brand for each in branded("BOSCH", "bosch GmbH", "Bosch", "sony")]
    assert settled == ["Bosch", "Bosch", "Bosch", "SONY"]


@given(made=made_products, cut=st.integers(0, 30), random=st.randoms(use_true_random=False))
def test_order_and_batching_do_not_change_counts(made: list[Product], cut: int, random: Random) -> None:
    for most in (200_000, 3):
        whole = census_of(made, most).normalizer()
        shuffled = list(made)
        random.shuffle(shuffled)
        parts = census_of(shuffled[cut:], most)
        parts.merge(census_of(shuffled[:cut], most))
        assert parts.normalizer() == whole


@given(made=made_products)
def test_spelling_normalisation_is_idempotent(made: list[Product]) -> None:
    settler = census_of(made).normalizer()
    once = settler.normalize_all(made)
    twice = settler.normalize_all(once.products)
    assert twice.counts == {}
    assert all(after is before for before, after in zip(once.products, twice.products, strict=True))
    assert census_of(once.products).normalizer() == SpellingNormalizer({}, {})


def test_equal_category_levels_are_merged() -> None:
    product = Product("1", "x", category=("Power Tools", "power-tools", "Drills"))
    census = census_of([product, Product("2", "x", category=("Power Tools",))])
    assert census.normalizer().normalize(product).category == ("Power Tools", "Drills")


def test_memory_is_bounded_and_sampling_starts_above_it() -> None:
    counter = SpellingCounter(brand_key, most=100)
    for number in range(5_000):
        counter.add(f"Brand {number}")
        counter.add(f"BRAND {number}")
    assert len(counter.counts) <= 100
    assert counter.depth > 0
    kept = {brand_key(spelling) for spelling in counter.counts}
    assert len(counter.counts) == 2 * len(kept)


def test_counts_are_exact_after_sampling_starts() -> None:
    counter = SpellingCounter(brand_key, most=100)
    for number in 3 * list(range(1_000)):
        counter.add(f"Brand {number}")
    assert set(counter.counts.values()) == {3}
