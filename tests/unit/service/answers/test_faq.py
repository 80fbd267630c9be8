"""Texts for answers: files with markup, personal data and errors, entries found by words and by meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelfwise.retrieval.errors import FaqError
from shelfwise.retrieval.events.privacy import Masker
from shelfwise.service.answers.answering import AnswerStatus
from shelfwise.service.answers.faq import FaqEntry, FaqStore
from shelfwise.service.answers.faq_files import mask_names, read_faq
from shelfwise.service.engine.engine import SearchEngine

MASKER = Masker()


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_lines_become_entries_without_markup_and_personal_data(tmp_path: Path) -> None:
    lines = (
        '{"id": "r", "question": "<b>Returns?</b>", "answer": "Write to ann@example.com<script>alert(1)</script>"}',
        "{nonsense",
        '["a list"]',
        '{"question": "No answer?"}',
        '{"answer": 3}',
        '{"question": "How long?", "answer": "Two days.", "product_id": "d1;d2", "source": "tickets"}',
    )
    found = read_faq(write(tmp_path, "faq.jsonl", "\n".join(lines)), MASKER)
    first, second = found.entries
    assert (first.question, first.answer, first.source) == ("Returns?", "Write to [email]", "faq")
    assert (second.products, second.source) == (("d1", "d2"), "tickets")
    assert found.masked == 1
    assert [each.line for each in found.rejected] == [2, 3, 4, 5]
    assert found.rejected[2].reason == "answer is missing or empty"


def test_tables_and_manuals_are_read(tmp_path: Path) -> None:
    table = read_faq(write(tmp_path, "faq.csv", 'id,question,answer\nr,"Returns, how?",In 30 days.\n'), MASKER)
    assert table.entries == (FaqEntry("r", "In 30 days.", "Returns, how?", source="faq"),)
    manual = "# Care\n\nOil the chain every month. Store it dry.\n\n<p>Charge it for two hours.</p>\n"
    passages = read_faq(write(tmp_path, "care.md", manual), MASKER, products=["d1"]).entries
    assert [each.answer for each in passages] == [
        "# Care",
        "Oil the chain every month. Store it dry.",
        "Charge it for two hours.",
    ]
    assert all(each.products == ("d1",) and not each.question for each in passages)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("faq.jsonl", "", "has no valid entry"),
        ("faq.jsonl", "{}", "line 1: answer is missing"),
        ("faq.jsonl", '{"answer": "' + "a" * 5_000 + '"}', "answer has 5,000 characters, at most 4,000"),
        ("faq.jsonl", "[" * 100_000, "line 1: is nested too deep"),
        ("faq.exe", "x", "must end in .jsonl, .csv"),
        ("faq.csv", "question;answer\nOne?;Yes\n", "the columns are 'question;answer'; one must be answer"),
        ("faq.csv", 'question,answer\nOne?,"Yes\nTwo?,No\n', "line 2: is not valid CSV"),
        ("faq.jsonl", '{"answer": "x", "products": [null]}', "products has NoneType"),
    ],
)
def test_a_file_without_entries_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(FaqError, match=message):
        read_faq(write(tmp_path, name, text), MASKER)


def test_a_file_that_is_missing_or_no_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FaqError, match="cannot be read"):
        read_faq(tmp_path / "faq.csv", MASKER)
    (tmp_path / "faq.csv").write_bytes(b"answer\n\xff")
    with pytest.raises(FaqError, match=":2: not UTF-8"):
        read_faq(tmp_path / "faq.csv", MASKER)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Hi Anna, it is fine.", "Hi [name], it is fine."),
        ("hello anna!\nIt is.", "hello [name]!\nIt is."),
        ("Dear Mr. Miller: no.", "Dear [name]: no."),
        ("Dear Dr. Ann-Marie O'Neill,\nno.", "Dear [name],\nno."),
        ("It is.\nBest regards,\nJohn Smith\nService", "It is.\nBest regards,\n[name]\nService"),
        ("It is. Kind regards, J. Smith", "It is. Kind regards, [name]"),
        ("It is. Thanks, Zoë", "It is. Thanks, [name]"),
        ("my name is Ann Lee and", "my name is [name] and"),
        ("Sehr geehrte Frau Müller,\nja.", "Sehr geehrte [name],\nja."),
        ("您好张先生，可以的。", "您好[name]先生，可以的。"),
        ("亲爱的小明：可以", "亲爱的[name]：可以"),
        ("我叫李雷，想退货", "我叫[name]，想退货"),
        ("可以的。祝好！\n王芳", "可以的。祝好！\n[name]"),
        *(
            (text, text)
            for text in (
                "Hi there, it is fine.",
                "Dear customer, it is.",
                "Hello Kitty bags are washable.",
                "Hi, is it waterproof?",
                "Thanks to the coating, it is.",
                "Many thanks for asking.",
                "尊敬的客户，可以的。",
                "您好，可以的。",
                "女士背包可以机洗。",
                "您好，有适合女士的包吗？",
            )
        ),
    ],
)
def test_names_are_masked_by_the_form_of_a_letter(text: str, shown: str) -> None:
    assert mask_names(text) == shown


def test_an_entry_about_a_type_answers_for_its_products(live: SearchEngine) -> None:
    product = next(hit.product for hit in live.search("cordless drill").hits if "Drill" in hit.product.title)
    live.answers.put([FaqEntry("oil", "Once a year.", "How often does a drill need oil?", product_type="Drills")])
    assert live.answer("How often does it need oil?", product.id).quotes[0].entry == "oil"
    assert live.answer("How often do drills need oil?").quotes[0].entry == "oil"


def test_vectors_that_come_later_are_followed(live: SearchEngine) -> None:
    FaqStore(live.root).put([FaqEntry("returns", "Within 30 days.", "What is your return policy?")])
    live.reload_if_changed()
    assert any("match by words only" in each for each in live.notices)
    with SearchEngine.open(live.root) as other:
        assert other.answers.encode() == 1
    live.reload_if_changed()
    assert not any("match by words only" in each for each in live.notices)


def test_too_many_entries_are_refused_before_they_are_encoded(live: SearchEngine) -> None:
    entries = [FaqEntry(str(number), "Yes.", "Is it?") for number in range(10_001)]
    with pytest.raises(FaqError, match="there would be 10,001 answers, at most 10,000"):
        live.answers.put(entries)


def test_entries_answer_questions_and_follow_changes(live: SearchEngine) -> None:
    product = live.search("drill").hits[0].product
    bound = FaqEntry("oil", "Oil it once a year.", "How often do I have to oil it?", (product.id,))
    general = FaqEntry("returns", "You can send anything back within 30 days.", "What is your return policy?")
    live.answers.put([bound, general], who="m7")
    found = live.answer("How many days do I have to return something?")
    assert (found.quotes[0].entry, found.quotes[0].text) == ("returns", general.answer)
    assert live.answer("How often should I oil it?", product.id).quotes[0].entry == "oil"
    assert live.answer("How often should I oil it?").status is AnswerStatus.NO_SOURCE
    assert live.answers.encode() == 0
    live.answers.delete(["returns"])
    assert live.answer("How many days do I have to return something?").status is AnswerStatus.NO_SOURCE
    with pytest.raises(FaqError, match="answer: is empty"):
        live.answers.put([FaqEntry("e", " ")])
