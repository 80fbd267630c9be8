"""Real Elasticsearch servers for the tests: downloaded by Maven, run without Docker, stopped with the tests."""

from __future__ import annotations


class ServerError(Exception):
    """A server cannot be used by a test."""


class ServerUnavailableError(ServerError):
    """A requirement of a server, such as Java, is missing on this machine; the message says what to install."""


class ServerStartError(ServerError):
    """A server did not start; the message ends with its log."""
