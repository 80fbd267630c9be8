"""Query ids that say what a search took part in: so every event that names one tells it, through any client.

`9f1c...~price-test.bold~draft:21:abba-~Zm9vYmFyYmF6`: the id itself; for each split the experiment and the variant; for
interleaving the experiment, the place of the page's first hit, and which list placed each hit; and a signature over all
of it. A mark that was made up, or put behind another id, has none that fits, and counts for nothing.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from retrieval.value_checks import MAX_ID_BYTES

MOST_TEAMS = 100
"""Hits of a page whose team is told."""
_MARK = "~"
_SIGNATURE_BYTES = 9
_SPLIT = re.compile(r"([a-z0-9-]{1,32})\.([a-z0-9-]{1,16})")
_DRAFT = re.compile(r"([a-z0-9-]{1,32}):([1-9][0-9]{0,5}):([ab-]{1,100})")


@dataclass(frozen=True, slots=True)
class Seen:
    """A search saw one variant of a split."""

    experiment: str
    variant: str

    def __str__(self) -> str:
        return f"{self.experiment}.{self.variant}"


@dataclass(frozen=True, slots=True)
class Drafted:
    """A page was interleaved."""

    experiment: str
    first: int
    """The place of its first hit, from 1."""
    teams: str
    """As `interleaving.Draft` has them, of its first hits."""

    def __str__(self) -> str:
        return f"{self.experiment}:{self.first}:{self.teams[:MOST_TEAMS]}"


Part = Seen | Drafted


def marked(query_id: str, parts: Sequence[Part], key: bytes) -> str:
    """A query id with what the search took part in; as it is where that is nothing."""
    if not parts:
        return query_id
    said = _MARK.join((query_id, *map(str, parts)))
    return f"{said}{_MARK}{_signature(said, key)}"


def parts_of(query_id: str, key: bytes) -> tuple[Part, ...]:
    """What a query id says that the search took part in; nothing where it was not signed by this key."""
    said, mark, signature = query_id.rpartition(_MARK)
    if not key or not mark or _MARK not in said or len(query_id) > MAX_ID_BYTES:
        return ()
    if not hmac.compare_digest(signature.encode("utf-8", "surrogatepass"), _signature(said, key).encode()):
        return ()
    found = tuple(_part(each) for each in said.split(_MARK)[1:])
    return tuple(each for each in found if each is not None)


def _part(said: str) -> Part | None:
    if split := _SPLIT.fullmatch(said):
        return Seen(split[1], split[2])
    if draft := _DRAFT.fullmatch(said):
        return Drafted(draft[1], int(draft[2]), draft[3])
    return None


def _signature(said: str, key: bytes) -> str:
    digest = hmac.digest(key, said.encode("utf-8", "surrogatepass"), "sha256")[:_SIGNATURE_BYTES]
    return urlsafe_b64encode(digest).decode()
