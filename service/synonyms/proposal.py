"""Synonyms that are proposed for a person to accept: one small file beside the index, made with the tables of events.

STORE/synonym_proposals.json holds what shoppers' queries say, under a checksum, and is replaced whole. Queries of fewer
shoppers than the settings say are not in it. What a person declined, and what is a synonym by now, is left out when it
is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from retrieval.store_files import PROPOSALS_FILE
from service.sealed_json import SealedJson
from service.synonyms.synonym import Kind, Synonym, named

SCHEMA = 1
"""Counts up when the file changes so that an older program could not read it."""
MOST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Example:
    """Two queries that a proposal was seen in."""

    query: str
    to_query: str
    shoppers: int
    """How many went from the one to the other, or else asked the rarer of the two."""
    share: float
    """Of all that put the one in other words, those who went to the other."""
    alike: float
    """How alike the products are that were chosen after both: a cosine, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A synonym that shoppers' queries propose, and why."""

    id: str
    """The same each time that the same words are proposed."""
    kind: Kind
    phrases: tuple[str, ...]
    to: tuple[str, ...]
    shoppers: int
    """Of its strongest example."""
    share: float
    alike: float
    examples: tuple[Example, ...]
    """The strongest first."""

    @property
    def synonym(self) -> Synonym:
        """What accepting it keeps."""
        return named(self.kind, self.phrases, self.to)


_FILE = SealedJson("proposals", SCHEMA, msgspec.json.Decoder(tuple[Proposal, ...]))


def proposal_id(one: str, other: str) -> str:
    """The same for two phrases in either order."""
    return hashlib.sha256("\t".join(sorted((one, other))).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def write_proposals(root: Path, proposals: Sequence[Proposal], made: datetime) -> None:
    """Replaces the file of an index directory; raises StoreError where it cannot be written."""
    _FILE.write(root / PROPOSALS_FILE, tuple(proposals), made)


def read_proposals(root: Path) -> tuple[Proposal, ...]:
    """What the file of an index directory says; nothing where there is none.

    Raises StoreDamagedError for a file that cannot be read or is not whole, StoreForeignError for one of another
    schema.
    """
    return _FILE.read(root / PROPOSALS_FILE, MOST_BYTES) or ()
