"""Close names for error messages."""

from __future__ import annotations

from retrieval.errors import close_names, suggest_names


def test_close_names_are_those_spelled_nearly_so() -> None:
    assert close_names("pric", ["price", "colour", "Price_Cents"]) == ("price",)
    assert close_names("x", []) == ()


def test_a_message_names_them_or_advises_otherwise() -> None:
    assert suggest_names("pric", ["price", "prices", "colour"], "look it up") == "did you mean price or prices?"
    assert suggest_names("pric", ["colour"], "look it up") == "look it up"
