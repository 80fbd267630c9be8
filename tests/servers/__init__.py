"""Real Elasticsearch servers for the tests: brought by Maven, run without Docker, gone when the tests are."""

from __future__ import annotations


class ServerError(Exception):
    """Whatever keeps a test from its server."""


class ServerUnavailableError(ServerError):
    """This machine lacks what a server needs, such as Java; the message says what to install."""


class ServerStartError(ServerError):
    """A server that should have started did not; the message ends with its log."""
