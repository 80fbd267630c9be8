"""Detection of questions, and the question words that are not searched."""

from __future__ import annotations

import time

import pytest

from shelfwise.service.answers.facts import has_count
from shelfwise.service.answers.questions import (
    Bound,
    QuestionKind,
    is_follow_up,
    is_question,
    parse_question,
    searched_words,
)


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
    assert (asked.kind, asked.bound) == (QuestionKind.YES_NO, Bound("<", 2_000, "g", "2 kg"))
    assert parse_question("is it 12 volts").bound == Bound("=", 12, "v", "12 volts")
    assert parse_question("Is it cordless 12 volts?").bound == Bound("=", 12, "v", "12 volts")
    assert parse_question("Has the cover 2 kg?").bound == Bound("=", 2_000, "g", "2 kg")
    assert parse_question("超过2公斤吗").bound == Bound(">", 2_000, "g", "2公斤")
    assert parse_question("How many volts is it?").unit == "v"
    assert parse_question("What voltage is it?").kind is QuestionKind.VALUE
    assert parse_question("它防水吗").kind is QuestionKind.YES_NO


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
