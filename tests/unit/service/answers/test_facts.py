"""Facts of products matched with questions: field names in words, converted and compared values, contradictions."""

from __future__ import annotations

import pytest

from shelfwise.retrieval.records import AttributeValue, Availability, Product, Variant
from shelfwise.service.answers.facts import contradictions, facts_of, match_fact, read_name, sentences_of
from shelfwise.service.answers.questions import parse_question

DRILL = Product(
    "p1",
    "Cordless Drill",
    brand="Bosch",
    price=89.0,
    currency="USD",
    availability=Availability.OUT_OF_STOCK,
    attributes={
        "voltage_v": 12.0,
        "weight": "1.5 kg",
        "color": "Red",
        "brushless": True,
        "capacity_oz": 12.0,
        "颜色": "红色",
        "operating_temperature": "0 - 40",
    },
    variants=(Variant("v1", {"Case": "Bag"}), Variant("v2", {"Case": "Box"})),
)


def best(question: str, product: Product = DRILL) -> tuple[str, bool | None] | None:
    asked = parse_question(question)
    found = [match for fact in facts_of(product) if (match := match_fact(asked, fact, asked.words, ()))]
    top = max(found, key=lambda each: each.score, default=None)
    return (top.fact.text, top.holds) if top and top.score >= 0.6 else None


def test_names_are_read_as_words_with_their_unit() -> None:
    assert (read_name("package_weight_kg").label, read_name("package_weight_kg").unit) == ("Package weight", "kg")
    assert read_name("batteryLife").terms == {"batteri", "life"}
    assert "color" in read_name("颜色").terms


def test_facts_show_the_unit_of_a_field_or_of_its_own_attribute() -> None:
    numbers: dict[str, AttributeValue] = {"weight": 1.2, "clock_ghz": 2.4, "重量（g）": 3.0, "ports": 4.0}
    attributes = {**numbers, "weight_unit": "kg", "bus_unit": "MHz"}
    facts = facts_of(Product("1", "Radio", attributes=attributes))
    texts = ["Weight: 1.2 kg", "Clock: 2.4 GHz", "重量: 3 g", "Ports: 4", "Bus unit: MHz"]
    assert [fact.text for fact in facts] == texts
    assert facts[0].quantity == ("g", 1200)


@pytest.mark.parametrize(
    ("question", "text", "holds"),
    [
        ("What voltage is it?", "Voltage: 12 V", None),
        ("Is it 12 volts?", "Voltage: 12 V", True),
        ("Does it weigh less than 4 lb?", "Weight: 1.5 kg", True),
        ("Does it weigh more than 2 kg?", "Weight: 1.5 kg", False),
        ("超过1公斤吗，重量", "Weight: 1.5 kg", True),
        ("Is it red?", "Color: Red", True),
        ("Does it come in blue?", "Color: Red", False),
        ("Is it brushless?", "Brushless: yes", True),
        ("Is it sold out?", "Availability: out of stock", True),
        ("Does it hold more than 300 ml, what is the capacity?", "Capacity: 12 oz", True),
        ("Who makes it?", "Brand: Bosch", None),
        ("How much is it?", "Price: 89.00 USD", None),
        ("Which case does it have?", "Case: Bag, Box", None),
    ],
)
def test_a_question_finds_its_fact(question: str, text: str, holds: bool | None) -> None:
    assert best(question) == (text, holds)


@pytest.mark.parametrize(
    "question", ["Is it waterproof?", "What is the resolution?", "How wide is it?", "它是谁设计的？"]
)
def test_a_field_that_the_product_lacks_finds_none(question: str) -> None:
    assert best(question) is None


def test_hidden_fields_are_no_facts() -> None:
    names = {fact.field.name for fact in facts_of(DRILL, ("price", "attributes.color", "weight"))}
    assert not names & {"price", "color", "weight"}
    assert "brand" in names


@pytest.mark.parametrize(
    ("hidden", "secret"),
    [("attributes.size", "40 cm"), ("size", "40 cm"), ("identifiers", "QX-11"), ("rating_count", "4,711")],
)
def test_values_of_hidden_fields_are_in_no_fact(hidden: str, secret: str) -> None:
    sized = Product(
        "p",
        "Shelf",
        attributes={"size.width": "40 cm"},
        identifiers={"sku": ("QX-11",)},
        rating=4.5,
        rating_count=4_711,
    )
    texts = [" ".join(fact.text for fact in facts_of(sized, of)) for of in ((), (hidden,))]
    assert [secret in each for each in texts] == [True, False]


def test_sentences_are_verbatim() -> None:
    assert sentences_of("Holds 1.5 l. Made in the U.S. for all!\n好用。不贵") == (
        "Holds 1.5 l.",
        "Made in the U.S. for all!",
        "好用。",
        "不贵",
    )


def test_sentences_that_give_another_value_contradict() -> None:
    by_name = {fact.field.name: fact for fact in facts_of(DRILL)}
    assert contradictions(by_name["color"], ["Color: Blue.", "Color: Red."]) == ["Color: Blue."]
    assert contradictions(by_name["weight"], ["Its weight is 3 kg.", "A weight of 1.5 kg."]) == ["Its weight is 3 kg."]
    assert contradictions(by_name["voltage_v"], ["Charges at 5 V."]) == []
