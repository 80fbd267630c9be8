"""Close names for error messages."""

from __future__ import annotations

from retrieval.close_names import close_names


def test_close_names_are_those_spelled_nearly_so() -> None:
    assert close_names("pric", ["price", "colour", "Price_Cents"]) == ("price",)
    assert close_names("x", []) == ()
