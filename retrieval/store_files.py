"""The small files that say what an index directory is: its schema, and which version, ranker or tower serves.

Each carries a checksum, so that a flipped bit is never read as another schema or another version. They are read
without one, too, as a person writes them.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import xxhash

SCHEMA = 1
"""Counts up when a version's files change so that an older program could not read them."""
MARKER = "shelfwise.json"
EVENTS_FOLDER = "events"
POPULARITY_FILE = "popularity.json"
"""Made of events, for the ranker: service/popularity.py."""
COVIEWS_FILE = "coviews.bin"
"""Made of events, for similar products: service/coviews.py."""
ASKED_FILE = "asked.json"
"""Made of events, for suggestions: service/suggesting/asked.py."""
PROPOSALS_FILE = "synonym_proposals.json"
"""Made of events, for a person to accept: service/synonyms/proposal.py."""
CURRENT = "CURRENT"
VERSION_NAME = re.compile(r"v\d{6,}")
_MOST_POINTER_BYTES = 256


class _Marker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    xxh3: str = ""


def marker_content() -> bytes:
    """What the marker of this program's schema holds."""
    return msgspec.json.encode(_Marker(SCHEMA, _seal(str(SCHEMA))))


def read_marker(path: Path) -> int:
    """The schema that a marker names; raises OSError, or ValueError for content that is damaged."""
    try:
        marker = msgspec.json.decode(path.read_bytes(), type=_Marker)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    if marker.xxh3 not in ("", _seal(str(marker.schema))):
        raise ValueError("it has another checksum than when it was written")
    return marker.schema


def pointer_content(name: str) -> bytes:
    """What a pointer to what is called so holds."""
    return f"{name} {_seal(name)}\n".encode()


def read_pointer(path: Path, names: re.Pattern[str] = VERSION_NAME) -> str:
    """The name that a pointer holds, by default a version's; raises OSError, or ValueError, which begins with what it
    says, for content that is none of `names`."""
    with path.open("rb") as file:
        said = file.read(_MOST_POINTER_BYTES).decode("ascii", "replace").rstrip("\r\n")
    name, _, seal = said.partition(" ")
    if not names.fullmatch(name) or seal not in ("", _seal(name)):
        raise ValueError(f"it says {said[:40]!r}")
    return name


def _seal(text: str) -> str:
    return xxhash.xxh3_64_hexdigest(text.encode())
