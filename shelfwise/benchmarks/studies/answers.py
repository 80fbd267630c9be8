"""Answers to generated questions: whether they are correct, from the right source, and "not said" if no text says it.

Questions are wordings of benchmarks/cases/answers.toml about randomly drawn products. They are about a field of a
product, a sentence of its description, an entry of an FAQ that is added to a copy of the index, or something that no
text says.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import typer

from shelfwise.benchmarks.studies import run_study
from shelfwise.retrieval.html_report import printable
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.text.analysis import contains_chinese
from shelfwise.service.answers.answering import Answer, AnswerStatus
from shelfwise.service.answers.faq import FaqEntry
from shelfwise.service.cli.options import Index, command
from shelfwise.service.cli.output import emit, plain_table, say, show_table
from shelfwise.service.engine.engine import SearchEngine

Split = Literal["dev", "test"]
CASES = Path(__file__).parents[1] / "cases" / "answers.toml"
_ON_PAGE = 0.6
"""The share of questions about products that are asked on the product's page."""
_FIELD_SHARE, _SENTENCE_SHARE = 0.6, 0.25
"""Shares of a demo store's questions; the others are about the FAQ."""
_LEAST_PRODUCTS = 50
"""The fewest products with a field of icecat for questions about it."""


@dataclass(frozen=True, slots=True)
class Case:
    """A question, and the source of its answer."""

    kind: str
    """field, sentence, faq or nothing."""
    text: str
    product: Product | None
    on_page: bool
    source: str = ""
    """The field, the beginning of the sentence, or the id of the entry."""
    value: str = ""
    """The text that the quote of a field must contain."""


@dataclass(frozen=True, slots=True)
class KindCount:
    """Counts of cases of one kind."""

    cases: int
    right: int
    answered: int


@dataclass(slots=True)
class AnswersReport:
    """The answers to questions about one index."""

    index: str
    split: str
    kinds: Mapping[str, KindCount]
    milliseconds: Mapping[str, float]
    """Percentiles of the time of an answer."""
    wrong: Sequence[tuple[str, str, str]] = field(default_factory=list)
    """Questions with a wrong answer, with the title of the page and the quote."""


def measure_answers(
    index: Path,
    catalog: Literal["demo", "icecat"],
    split: Split,
    count: int = 100,
    unanswerable: int = 50,
    seed: int = 0,
) -> AnswersReport:
    """Asks `count` questions whose answers are in an index, and `unanswerable` ones whose answers are not."""
    cases_file: dict[str, Any] = msgspec.toml.decode(CASES.read_bytes())
    dice = random.Random(f"{split} {catalog} {seed}")  # noqa: S311  # no secret
    with _copied(index) as root, SearchEngine.open(root, follow=False) as engine:
        part = cases_file[split]
        engine.answers.put([FaqEntry(each["id"], each["answer"], each["question"]) for each in part["faq"]])
        products = [engine.snapshot.products[row] for row in range(len(engine.snapshot.products))]
        if catalog == "demo":
            cases = [*_demo_cases(part, products, count, dice), *_nothing(part, products, unanswerable, dice)]
        else:
            cases = [*_icecat_cases(cases_file["icecat"], products, count, dice)]
            cases += _lacking_cases(cases_file["icecat"], products, unanswerable, dice)
        engine.answer("Is there a light on it?", products[0].id)  # loads what the first question would wait for
        engine.answer("请问这款是红色的吗")
        outcomes = [(case, *_timed(engine, case)) for case in cases]
    return _report(index.name, split, outcomes)


def _timed(engine: SearchEngine, case: Case) -> tuple[Answer, float, float]:
    """An answer, and its milliseconds by the clock and of processor time."""
    started, worked = time.perf_counter(), time.process_time()
    found = engine.answer(case.text, case.product.id if case.product and case.on_page else None)
    return found, (time.perf_counter() - started) * 1_000, (time.process_time() - worked) * 1_000


def _report(name: str, split: str, outcomes: Sequence[tuple[Case, Answer, float, float]]) -> AnswersReport:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    wrong = []
    for case, found, *_ in outcomes:
        right = is_right(case, found)
        counts[case.kind][0] += 1
        counts[case.kind][1] += right
        counts[case.kind][2] += found.status is AnswerStatus.ANSWERED
        if not right:
            quoted = "; ".join(f"{quote.text} [{quote.entry or quote.field}]" for quote in found.quotes)
            page = case.product.title if case.product and case.on_page else ""
            wrong.append((case.text, page, quoted or found.status.value))
    percentiles = {
        f"p{share}{of}": float(np.percentile([each[place] for each in outcomes], share))
        for place, of in ((2, ""), (3, " of the processor"))
        for share in (50, 99)
    }
    return AnswersReport(name, split, {kind: KindCount(*each) for kind, each in counts.items()}, percentiles, wrong)


def is_right(case: Case, found: Answer) -> bool:
    """Whether the first quote is from the source of a case and contains its value."""
    if case.kind == "nothing":
        return found.status is not AnswerStatus.ANSWERED
    if not found.quotes:
        return False
    first = found.quotes[0]
    if case.kind == "faq":
        return first.entry == case.source
    # Variants with the same title are indistinguishable.
    same = case.product is not None and (first.product_id == case.product.id or first.title == case.product.title)
    if case.kind == "sentence":
        return same and first.field == "description" and first.text.startswith(case.source)
    return same and first.field == case.source and case.value in first.text


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _language(product: Product) -> str:
    return "zh" if contains_chinese(product.title) else "en"


def _worded(wording: str, product: Product, *, on_page: bool) -> str:
    it = "它" if contains_chinese(wording) else "it"
    return wording.replace("the {it}" if on_page else "\0", it).replace("{it}", it if on_page else product.title)


def _demo_cases(
    part: Mapping[str, Any], products: Sequence[Product], count: int, dice: random.Random
) -> Iterator[Case]:
    fields, sentences = round(count * _FIELD_SHARE), round(count * _SENTENCE_SHARE)
    yield from _field_cases({each: part[each] for each in ("en", "zh")}, products, fields, dice)
    pairs = [
        (begin, wording, product)
        for begin, wording in part["sentences"].items()
        for product in products
        if begin in product.description
    ]
    for begin in dice.choices(sorted({pair[0] for pair in pairs}), k=sentences):
        _, wording, product = dice.choice([pair for pair in pairs if pair[0] == begin])
        yield Case("sentence", wording.replace("{it}", "it"), product, on_page=True, source=begin)
    wordings = [(entry["id"], wording) for entry in part["faq"] for wording in entry["asked"]]
    for entry_id, wording in dice.choices(wordings, k=count - fields - sentences):
        yield Case("faq", wording, None, on_page=False, source=entry_id)


_CORE = ("price", "brand", "availability", "rating")


def _field_cases(
    wordings: Mapping[str, Mapping[str, Sequence[str]]], products: Sequence[Product], count: int, dice: random.Random
) -> Iterator[Case]:
    """Fields in turn, so that frequent ones do not displace others."""
    having: dict[tuple[str, str], list[Product]] = defaultdict(list)
    for product in products:
        language = _language(product)
        for name in wordings[language]:
            if name in product.attributes or (name in _CORE and getattr(product, name) is not None):
                having[language, name].append(product)
    keys = sorted(having)
    dice.shuffle(keys)
    for at in range(count):
        language, name = keys[at % len(keys)]
        product, on_page = dice.choice(having[language, name]), dice.random() < _ON_PAGE
        wording = dice.choice(wordings[language][name])
        value = product.attributes.get(name, getattr(product, name, None))
        shown = {"price": f"{product.price:,.2f}", "availability": str(value).replace("_", " ")}.get(
            name, _plain(value)
        )
        source = name if name in _CORE else f"attributes.{name}"
        yield Case("field", _worded(wording, product, on_page=on_page), product, on_page, source, shown)


def _icecat_wordings(wordings: Mapping[str, Any], name: str) -> list[str]:
    """The wordings for a field of icecat: its own and the general ones."""
    words = name.removesuffix("_t_t").removesuffix("_h_h").replace("_", " ")
    own = [*wordings["en"].get(name, ()), *wordings["zh"].get(name, ())]
    return own or [each.replace("{field}", words) for each in wordings["en"]["any"]]


def _icecat_fields(products: Sequence[Product]) -> list[str]:
    counts: dict[str, int] = defaultdict(int)
    for product in products:
        for name in product.attributes:
            counts[name] += 1
    return sorted(name for name, count in counts.items() if count >= _LEAST_PRODUCTS)


def _icecat_cases(
    wordings: Mapping[str, Any], products: Sequence[Product], count: int, dice: random.Random
) -> Iterator[Case]:
    names = _icecat_fields(products)
    usual = [name for name in names if name in wordings["en"] or name in wordings["zh"]]
    for at in range(count):
        # Half of the questions are for fields for which shoppers use their own words.
        name = dice.choice(usual if at % 2 else names)
        product = dice.choice([each for each in products if name in each.attributes])
        on_page = dice.random() < _ON_PAGE
        text = _worded(dice.choice(_icecat_wordings(wordings, name)), product, on_page=on_page)
        yield Case("field", text, product, on_page, f"attributes.{name}", _plain(product.attributes[name]))


def _lacking_cases(
    wordings: Mapping[str, Any], products: Sequence[Product], count: int, dice: random.Random
) -> Iterator[Case]:
    """Fields of the catalog that a product lacks: neither its other fields nor its texts contain their words."""
    names = _icecat_fields(products)
    while count:
        name, product = dice.choice(names), dice.choice(products)
        words = {word for word in name.split("_") if len(word) > 2}
        own = {part for each in product.attributes for part in each.split("_")}
        own |= set(f"{product.title} {product.description}".lower().split())
        if words and not words & own:
            on_page = dice.random() < _ON_PAGE
            text = _worded(dice.choice(_icecat_wordings(wordings, name)), product, on_page=on_page)
            yield Case("nothing", text, product, on_page)
            count -= 1


def _nothing(part: Mapping[str, Any], products: Sequence[Product], count: int, dice: random.Random) -> Iterator[Case]:
    """Unanswerable questions: half about something no product mentions, others about the store or missing fields."""
    free = part["unanswerable"]
    for at in range(count):
        product = dice.choice(products)
        language, on_page = _language(product), dice.random() < _ON_PAGE
        if at % 5 == 0:
            yield Case("nothing", dice.choice(free["store"]), None, on_page=False)
        elif at % 5 in (1, 2):
            yield Case("nothing", _worded(dice.choice(free[language]), product, on_page=on_page), product, on_page)
        else:
            wordings = part[language]
            lacking = [
                name for name in wordings if name not in (*_CORE, *product.attributes) and _says_nothing(name, product)
            ]
            wording = dice.choice(wordings[dice.choice(lacking)])
            yield Case("nothing", _worded(wording, product, on_page=on_page), product, on_page)


_SAME = {
    "length": ("length", "height"),
    "capacity": ("capacity", "volume"),
    "volume": ("capacity", "volume"),
    "height": ("length", "height"),
    "lumens": ("lumens", "brightness"),
    "dishwasher": ("dishwasher",),
    "diameter": ("diameter", "length"),
    "size": ("size",),
}


def _says_nothing(name: str, product: Product) -> bool:
    """Whether neither a field of a product nor its description concerns the subject of a field."""
    head = name.split("_", maxsplit=1)[0]
    heads = _SAME.get(head, (head,))
    text = f"{product.title} {product.description}".lower()
    has_field = any(each.split("_")[0] in heads for each in product.attributes)
    return not has_field and not any(each[:5] in text for each in heads)


@contextmanager
def _copied(index: Path) -> Iterator[Path]:
    """A directory with links to everything in an index directory except its texts for answers."""
    with TemporaryDirectory() as folder:
        for each in index.resolve().iterdir():
            if each.name != "answers.sqlite":
                (Path(folder) / each.name).symlink_to(each)
        yield Path(folder)


@command("answers store --icecat icecat-index --split test")
def answers_command(
    index: Index,
    icecat: Annotated[
        Path | None, typer.Option(help="An index of icecat, with test questions alone: no parameter is chosen by it.")
    ] = None,
    split: Annotated[
        Literal["dev", "test"], typer.Option(help="Wordings that chose the thresholds, or others.")
    ] = "test",
    questions: Annotated[int, typer.Option(help="Questions per index whose answers it has.", min=1)] = 100,
    unanswerable: Annotated[int, typer.Option(help="Questions per index whose answers it lacks.", min=0)] = 50,
    seed: Annotated[int, typer.Option(help="Seed of the drawn products.")] = 0,
    wrong: Annotated[bool, typer.Option("--wrong", help="Show the questions that were answered wrongly.")] = False,
) -> None:
    """Ask questions about a demo store, and about icecat: right answers by the right source, and time."""
    reports = [measure_answers(index, "demo", split, questions, unanswerable, seed)]
    if icecat:
        reports.append(measure_answers(icecat, "icecat", "test", questions, unanswerable, seed))
    emit(reports, show_answers, wrong)


def show_answers(reports: Sequence[AnswersReport], wrong: bool = False) -> None:
    """A row for each kind of question of each index, one for all answerable questions, and times."""
    table = plain_table("index", "questions", "asked", "right", "share", right=("asked", "right", "share"))
    totals: dict[str, list[int]] = {"with an answer": [0, 0], "without one": [0, 0]}
    for report in reports:
        for kind, each in report.kinds.items():
            table.add_row(
                report.index,
                f"{kind}, {report.split}",
                f"{each.cases:,}",
                f"{each.right:,}",
                f"{each.right / each.cases:.1%}",
            )
            total = totals["without one" if kind == "nothing" else "with an answer"]
            total[0] += each.cases
            total[1] += each.right
    for name, (cases, right) in totals.items():
        if cases:
            table.add_row("all", name, f"{cases:,}", f"{right:,}", f"{right / cases:.1%}")
    show_table(table)
    for report in reports:
        say(f"{report.index}: " + ", ".join(f"{name} {each:.1f} ms" for name, each in report.milliseconds.items()))
    for text, page, quoted in (each for report in reports for each in report.wrong if wrong):
        say(f"{printable(text)}", (f"  [{printable(page)}]" if page else "", "dim"), f" -> {printable(quoted)}")


if __name__ == "__main__":
    run_study(answers_command)
