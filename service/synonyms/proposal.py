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
import xxhash

from retrieval.errors import StoreDamagedError, StoreError, StoreForeignError
from retrieval.manifest import write_durably
from retrieval.store_files import PROPOSALS_FILE
from service.synonyms.synonym import Kind, Synonym, named

SCHEMA = 1
"""Counts up when the file changes so that an older program could not read it."""
MOST_BYTES = 16 << 20
_CURE = "shelfwise events refresh makes it anew"


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


class _File(msgspec.Struct, frozen=True):
    schema: int
    made: datetime
    xxh3: str
    """Of the bytes of `proposals`."""
    proposals: msgspec.Raw


class _Schema(msgspec.Struct, frozen=True):
    schema: int


def proposal_id(one: str, other: str) -> str:
    """The same for two phrases in either order."""
    return hashlib.sha256("\t".join(sorted((one, other))).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def write_proposals(root: Path, proposals: Sequence[Proposal], made: datetime) -> None:
    """Replaces the file of an index directory; raises StoreError where it cannot be written."""
    told = msgspec.json.encode(proposals)
    content = _File(SCHEMA, made, xxhash.xxh3_64_hexdigest(told), msgspec.Raw(told))
    path = root / PROPOSALS_FILE
    try:
        write_durably(path, msgspec.json.encode(content))
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror}); see to the disk and to the rights") from error


def read_proposals(root: Path) -> tuple[Proposal, ...]:
    """What the file of an index directory says; nothing where there is none.

    Raises StoreDamagedError for a file that cannot be read or is not whole, StoreForeignError for one of another
    schema.
    """
    path = root / PROPOSALS_FILE
    try:
        with path.open("rb") as file:
            said = file.read(MOST_BYTES + 1)
        if len(said) > MOST_BYTES:
            raise StoreDamagedError(f"{path} has more than {MOST_BYTES:,} bytes; {_CURE}")
        if (schema := msgspec.json.decode(said, type=_Schema).schema) != SCHEMA:
            raise StoreForeignError(f"{path} is in schema {schema}, this program reads {SCHEMA}; {_CURE}")
        content = msgspec.json.decode(said, type=_File)
        proposals = msgspec.json.decode(content.proposals, type=tuple[Proposal, ...])
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreDamagedError(f"{path} cannot be read ({error}); {_CURE}") from error
    if content.xxh3 != xxhash.xxh3_64_hexdigest(bytes(content.proposals)):
        raise StoreDamagedError(f"{path} has another checksum than when it was written; {_CURE}")
    return proposals
