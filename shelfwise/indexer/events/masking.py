"""Masking of event data: messages, reports and the log of rejected rows show no personal data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime

from shelfwise.indexer.rejects import RejectExample, RejectLog, printable
from shelfwise.retrieval.errors import EventError, RowError
from shelfwise.retrieval.events.privacy import Masker, Pseudonyms
from shelfwise.retrieval.events.stored import MAX_QUERY
from shelfwise.retrieval.records import Event

_LONGEST_ADDRESS = 254
"""The most characters of an e-mail address (RFC 5321, section 4.5.3.1.3: a path of 256 without its angle brackets)."""


def mask_text(text: str, masker: Masker, most: int) -> str:
    """A text masked and then cut to `most` characters; half an address would no longer look like one."""
    masked = masker.mask(printable_text(text[:MAX_QUERY]))
    if len(text) > MAX_QUERY:
        # The end may be half an address.
        masked = masked[:-_LONGEST_ADDRESS]
    return masked if len(masked) <= most and len(text) <= MAX_QUERY else f"{masked[:most]}..."


def printable_text(text: str) -> str:
    """A text in a form that UTF-8 can encode."""
    return text.encode("utf-8", "replace").decode()


_SHOWN = 200
"""The number of characters of a text that are kept."""


class RejectedEvents:
    """Logs rejected events and rows without personal data.

    A line has `file`, `line`, `reason`, `detail` and `event`. The event has only the fields that the mapping uses,
    never other columns, with the shopper and the session as pseudonyms and all texts masked and shortened. A row that
    could not be read has no `event`.
    """

    def __init__(self, log: RejectLog, pseudonyms: Pseudonyms, masker: Masker) -> None:
        self._log = log
        self._pseudonyms = pseudonyms
        self._masker = masker

    def add(
        self, file: str, line: int, error: RowError | EventError, event: Mapping[str, object] | None = None
    ) -> None:
        """Logs an error; `event` has the known fields, as in the log.

        Shopper and session are spelled as in an event, since their pseudonyms are derived from them.
        """
        example = RejectExample(printable(file), line, self._text(error.detail))
        row = {"file": example.file, "line": line, "reason": error.reason, "detail": example.detail}
        if event is not None:
            row["event"] = {field: self._mask(field, value) for field, value in event.items()}
        self._log.write(error.reason, example, row)

    def _mask(self, field: str, value: object) -> object:
        if field in ("shopper", "session"):
            if not isinstance(value, str):
                return ""
            pseudonym = self._pseudonyms.shopper if field == "shopper" else self._pseudonyms.session
            return pseudonym(printable_text(value))
        if isinstance(value, datetime):
            return value.isoformat()
        if isinstance(value, float | bool) or (type(value) is int and abs(value) < 2**53):
            return value
        if isinstance(value, list):
            # A session may be one of the joined values.
            return f"{len(value):,} values"
        return self._text(str(value))

    def _text(self, text: str) -> str:
        return mask_text(text, self._masker, _SHOWN)


def event_fields(event: Event) -> dict[str, object]:
    """The fields of an event that have a value."""
    values = {each.name: getattr(event, each.name) for each in fields(event)}
    return {name: value for name, value in values.items() if value not in ("", None)}
