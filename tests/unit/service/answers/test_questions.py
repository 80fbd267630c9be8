"""Detection of questions, and the question words that are not searched."""

from __future__ import annotations

import time

import pytest

from shelfwise.retrieval.records import AttributeValue, Availability, Product, Variant
from shelfwise.service.answers.facts import contradictions, facts_of, has_count, match_fact, read_name, sentences_of
from shelfwise.service.answers.questions import Bound, is_follow_up, is_question, parse_question, searched_words


@pytest.mark.parametrize(
    "text",
    [
        "how heavy is it",
        "does it weigh less than 2 lb",
        "What color is the Brunmarck Drill HX-3?",
        "Can you tell me the price of it?",
        "voltage of this one?",
        "whats the length of the leash",
        "steel pan how heavy",
        "please tell me the price",
        "充电电钻防水不",
        "多少钱",
        "这款防水吗",
        "能不能机洗",
    ],
)
def test_questions_are_recognised(text: str) -> None:
    assert is_question(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "?",
        "cordless drill",
        "what a girl wants dvd",
        "how to train your dragon",
        "will smith movie",
        "when harry met sally",
        "do it yourself",
        "can opener",
        "is this it cd",
        "12v battery",
        "hello kitty backpack",
        "无线鼠标 办公",
    ],
)
def test_searches_stay_searches(text: str) -> None:
    assert not is_question(text)


def terms(text: str) -> set[str]:
    return {term for word in parse_question(text).words for term in word.terms}


def test_usual_ways_to_ask_name_the_field() -> None:
    assert "weight" in terms("How heavy is it?")
    assert "weight" in terms("它有多重？")
    assert "price" in terms("这款多少钱")
    assert {"capac", "mug"} <= terms("How much does the mug hold?")
    assert terms("What is it?") == set()


def test_a_title_counts_what_a_question_asks_for() -> None:
    for text, title in (
        ("how many amps", "Timer, 15 Amp"),
        ("how many cc is it?", "16 in. 34cc saw"),
        ("多少克", "榴莲干30gx2袋"),
        ("多少瓦", "吸顶灯60瓦"),
        ("how many shelves", "5-Shelf Bookcase"),
        ("能放几套碗", "洗碗机14套嵌入"),
        ("能连几台设备", "三台设备一键切换。"),
    ):
        assert has_count(title, parse_question(text)), text
    assert not has_count("Timer, 15 Amp", parse_question("how many watts"))
    assert not has_count("Timer, 15 Amp", parse_question("is it 15 amps"))


def test_a_question_has_its_kind_and_the_quantity_that_it_compares_with() -> None:
    asked = parse_question("Does it weigh less than 2 kg?")
    assert (asked.is_whether, asked.bound) == (True, Bound("<", 2_000, "g", "2 kg"))
    assert parse_question("is it 12 volts").bound == Bound("=", 12, "v", "12 volts")
    assert parse_question("Is it cordless 12 volts?").bound == Bound("=", 12, "v", "12 volts")
    assert parse_question("Has the cover 2 kg?").bound == Bound("=", 2_000, "g", "2 kg")
    assert parse_question("超过2公斤吗").bound == Bound(">", 2_000, "g", "2公斤")
    assert parse_question("How many volts is it?").unit == "v"
    assert not parse_question("What voltage is it?").is_whether
    assert parse_question("它防水吗").is_whether


@pytest.mark.parametrize(
    "text", ["?" * 1_000, "how " * 250, "吗" * 1_000, "<b>is it</b>; DROP TABLE", "\ud800 is it red"]
)
def test_any_text_can_be_read(text: str) -> None:
    is_question(text)
    assert len(parse_question(text).words) <= 60


@pytest.mark.parametrize(
    ("text", "thing"),
    [
        ("Do you sell cordless drills?", {"cordless", "drill"}),
        ("do you guys still carry any tents", {"tent"}),
        ("where can I buy a lamp here", {"lamp"}),
        ("你们有卖电钻吗", {"电钻"}),
        ("你们店有没有电钻", {"电钻"}),
        ("电钻有卖吗", {"电钻"}),
    ],
)
def test_a_question_whether_the_store_has_a_thing_searches_the_thing(text: str, thing: set[str]) -> None:
    assert is_question(text)
    assert parse_question(text).is_offer
    assert thing <= terms(text)


def test_reading_takes_no_longer_for_many_quantities_and_words_that_compare() -> None:
    # Each "½" gives three characters and a quantity; each was compared with all text before it.
    hostile = ["max-" * 120 + "½" * 520, "exceed-" * 70 + "1 2 " * 125, "ﷺ" * 1_000, "min min " * 60 + "½ " * 260]
    began = time.process_time()
    for text in hostile:
        is_question(text)
        parse_question(text)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("text", "operator", "number", "unit"),
    [
        ("does it hold half a liter?", "=", 500.0, "ml"),
        ("does it hold more than a pint", ">", 473.176473, "ml"),
        ("does it weigh two pounds", "=", 907.18474, "g"),
        ("3升的呢", "=", 3000.0, "ml"),
        ("比30厘米大吗", ">", 300.0, "mm"),
        ("比2公斤轻吗", "<", 2000.0, "g"),
        ("is it cheaper than $25", "<", 25.0, ""),
        ("超过200元吗", ">", 200.0, ""),
        ("比100元贵吗", ">", 100.0, ""),
    ],
)
def test_quantities_are_compared_however_they_are_written(text: str, operator: str, number: float, unit: str) -> None:
    bound = parse_question(text).bound
    assert bound is not None
    assert (bound.operator, bound.number, bound.unit) == (operator, number, unit)
    assert unit or "price" in terms(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("How many volts do cordless drills have?", "volts cordless drills"),
        ("do you have drills under $50?", "drills under $50"),
        ("what is the cheapest drill", "drill"),
        ("哪个平底锅适合电磁炉", "平底锅 电磁炉"),
        ("电饭煲多少钱", "电饭煲"),
        ("is it?", "is it?"),
    ],
)
def test_a_question_is_searched_by_the_words_that_do_not_ask(text: str, words: str) -> None:
    assert searched_words(text) == words


def test_follow_ups_are_short_texts_after_a_question() -> None:
    assert all(map(is_follow_up, ("and the color?", "what about red", "how heavy?")))
    assert not any(map(is_follow_up, ("cordless drill", "android phone", "and")))


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
