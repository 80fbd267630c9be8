"""What of a record is sent: the attributes that were asked for, and what of them matched."""

from __future__ import annotations

from service.highlighting.matching import Matcher
from service.instantsearch.highlight import highlighted, snippets
from service.instantsearch.parameters import Shown
from service.instantsearch.record import Record, retrieved


def shown_record(record: Record, shown: Shown, matcher: Matcher) -> Record:
    """What of a record was asked for, with what matched."""
    sent = retrieved(record, shown.attributes)
    if shown.highlighted:
        sent["_highlightResult"] = highlighted(record, shown.highlighted, matcher, shown.marks)
    if shown.snippets:
        sent["_snippetResult"] = snippets(record, shown.snippets, matcher, shown.marks)
    return sent
