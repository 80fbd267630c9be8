"""What tests of pages share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser; a module has one, whose visitors know nothing of each other."""
    from tests.browsers import opened_browser

    with opened_browser() as opened:
        yield opened
