"""Shops' pages with the front-end libraries that they use, for a real browser to open."""

from __future__ import annotations


class PackagesUnavailableError(Exception):
    """A package that a page needs cannot be had; the message says what to do."""
