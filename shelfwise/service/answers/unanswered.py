"""Frequent questions of shoppers that no text of the store answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shelfwise.retrieval.errors import QueryError, UnknownProductError
from shelfwise.service.answers.answering import Answer, AnswerStatus, QuestionSubject
from shelfwise.service.answers.questions import is_question
from shelfwise.service.events.popular_queries import read_popular_queries


@dataclass(frozen=True, slots=True)
class UnansweredQuestion:
    """A shopper's question that no text of the store answers."""

    text: str
    times: int
    about: QuestionSubject
    """The product on whose page it was asked, or the subject that it names."""


def unanswered_questions(answer: Callable[..., Answer], root: Path, size: int) -> tuple[UnansweredQuestion, ...]:
    """The questions without an answer among the 500 most frequent popular queries of an index directory, most frequent
    first. `answer` is `SearchEngine.answer`. A question that enough shoppers asked on a product's page is counted for
    that product."""
    questions = sorted(_popular_questions(root), key=lambda each: -each[1])[:_MOST_TRIED]
    found: list[UnansweredQuestion] = []
    for text, times, product_id in questions:
        try:
            given = answer(text, product_id)
        except (QueryError, UnknownProductError):  # the product is gone
            continue
        if given.status is AnswerStatus.NO_SOURCE:
            found.append(UnansweredQuestion(text, times, given.about))
    return tuple(found[:size])


_MOST_TRIED = 500


def _popular_questions(root: Path) -> Iterator[tuple[str, int, str | None]]:
    """Popular questions with their counts, and the product on whose page each was asked, if any."""
    for each in read_popular_queries(root).queries:
        yield from ((each.text, times, product_id) for product_id, times in each.pages)
        others = each.searches - sum(times for _, times in each.pages)
        if others > 0 and is_question(each.text):
            yield each.text, others, None
