"""Relevance settings: validation, error messages, and the stored document."""

from __future__ import annotations

import math

import pytest

from shelfwise.retrieval.errors import RelevanceError
from shelfwise.service.curation.relevance import DEFAULT_RELEVANCE, Relevance, RelevanceStore


@pytest.mark.parametrize(
    ("document", "field", "message"),
    [
        ({"cutoff": 3.1}, "cutoff", "cutoff: .* must be a number from -3 to 3"),
        ({"margin": 0}, "margin", "must be a number from 0.5 to 10"),
        ({"margin": "wide"}, "margin", "Expected `float`, got `str`"),
        ({"cutof": 1}, "cutof", "no field 'cutof'; did you mean cutoff"),
        ({"typo_tolerance": "no"}, "typo_tolerance", "must be one of on, offer, off"),
        ({"never_corrected": ["two words"]}, "never_corrected", r"never_corrected\[0\]: 'two words' is not one word"),
        ({"never_corrected": [""]}, "never_corrected", "is not one word"),
        ({"never_corrected": "word"}, "never_corrected", "a list of at most 1,000 words"),
        ({"signals": [{"weight": 1}]}, "signals", r"signals\[0\]: .* required field `field`"),
        (
            {"signals": [{"field": "rating", "weight": 0}]},
            "signals",
            r"signals\[0\].weight: .*weight \(above 0, at most 10\)",
        ),
        ({"signals": [{"field": "rating", "wait": 1}]}, "wait", r"signals\[0\]: no field 'wait'"),
        ({"signals": [{"field": "rating"}] * 2}, "signals", "'rating' is listed twice"),
        ({"signals": [{"field": f"f{number}"} for number in range(11)]}, "signals", "at most 10"),
        ({"fields": {"title": 0}}, "fields", r"fields.title: .*title \(at least 1\)"),
        ({"fields": {"brand": 1.5}}, "fields", "fields.brand: Expected `int`"),
        ({"fields": {"attributes": {"colour": 11}}}, "fields", "whole numbers from 0 to 10"),
        ({"fields": {"sku": 1}}, "sku", "fields: no field 'sku'"),
        ([], "", "is list, it must be an object with named fields"),
    ],
)
def test_error_names_the_field_and_allowed_values(document: object, field: str, message: str) -> None:
    with pytest.raises(RelevanceError, match=message) as refusal:
        RelevanceStore.kind.validate(RelevanceStore.kind.accept(document, "settings"))
    assert refusal.value.field == field


def test_python_values_are_validated() -> None:
    with pytest.raises(RelevanceError, match="cutoff"):
        RelevanceStore.kind.validate(Relevance(cutoff=math.nan))
    with pytest.raises(RelevanceError, match="must be of the class Relevance, not dict"):
        RelevanceStore.kind.validate({})  # type: ignore[arg-type]
    assert RelevanceStore.kind.validate(DEFAULT_RELEVANCE) == DEFAULT_RELEVANCE
