"""Pages of shops with their front-end libraries, for tests in a real browser."""

from __future__ import annotations


class PackagesUnavailableError(Exception):
    """A package that a page needs cannot be installed; the message says what to do."""
