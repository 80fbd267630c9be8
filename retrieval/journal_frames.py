"""The form of the journal of live changes on disk: a header, then a frame for each append, each under seals of its own.

The header says which changes are gone because they were forgotten, and its generation, which goes up with every
rewriting. A frame holds the changes of one append, a line of JSON each: it is whole or it is nothing. Seals are XXH3
(64 bits). All numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

from retrieval.errors import StoreForeignError

SCHEMA = 1
"""Counts up when the form changes so that an older program could not read it."""
_MAGIC = b"SHLFLIVE"
_SEAL = struct.Struct("<Q")
_HEADER = struct.Struct("<8sQQQ")
_HEAD = struct.Struct("<QQQqQ")
HEADER_BYTES = _HEADER.size + _SEAL.size
HEAD_BYTES = _HEAD.size + _SEAL.size


class UnreadableError(Exception):
    """Bytes that are no header or frame. `short`: they may be the beginning of one, and the rest is not there."""

    def __init__(self, what: str, *, short: bool = False) -> None:
        super().__init__(what)
        self.short = short


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the frames: they begin behind the change `forgotten`."""

    generation: int
    forgotten: int

    def packed(self) -> bytes:
        """The header's bytes."""
        return _sealed(_HEADER.pack(_MAGIC, SCHEMA, self.generation, self.forgotten))


@dataclass(frozen=True, slots=True)
class Head:
    """What stands before the lines of a frame: how long they are, the numbers of the changes, when they were taken."""

    length: int
    first: int
    count: int
    at: int
    """Microseconds since 1970, UTC."""
    seal: int
    """Of the lines."""

    @property
    def last(self) -> int:
        """The number of the frame's last change."""
        return self.first + self.count - 1

    def packed(self) -> bytes:
        """The head's bytes."""
        return _sealed(_HEAD.pack(self.length, self.first, self.count, self.at, self.seal))

    @property
    def names(self) -> str:
        """The changes in a message."""
        return f"change {self.first:,}" if self.count == 1 else f"changes {self.first:,} to {self.last:,}"


def read_header(content: bytes) -> Header:
    """Raises UnreadableError, or StoreForeignError for a header of a newer program."""
    packed = _unsealed(content, HEADER_BYTES, "its header")
    magic, schema, generation, forgotten = _HEADER.unpack(packed)
    if magic != _MAGIC:
        raise UnreadableError("it is no journal of live changes")
    if schema > SCHEMA:
        message = f"the journal is in schema {schema}, this program reads {SCHEMA}; use the program that wrote it"
        raise StoreForeignError(message)
    return Header(generation, forgotten)


def packed_frame(first: int, at: int, lines: Sequence[bytes]) -> bytes:
    """The frame of changes that are numbered from `first` on."""
    payload = b"\n".join(lines)
    return Head(len(payload), first, len(lines), at, xxhash.xxh3_64_intdigest(payload)).packed() + payload


def read_head(content: bytes, first: int) -> Head:
    """The head of the frame that begins with the change `first`; raises UnreadableError for anything else."""
    head = Head(*_HEAD.unpack(_unsealed(content, HEAD_BYTES, f"what follows change {first - 1:,}")))
    if head.first != first:
        raise UnreadableError(f"{head.names} stand where change {first:,} should")
    return head


def check_lines(head: Head, payload: bytes) -> None:
    """Raises UnreadableError for lines that are not those of a head."""
    if len(payload) != head.length:
        raise UnreadableError(f"{head.names} cannot be read")
    if xxhash.xxh3_64_intdigest(payload) != head.seal:
        raise UnreadableError(f"{head.names} {'has' if head.count == 1 else 'have'} another checksum than when taken")


def _sealed(packed: bytes) -> bytes:
    return packed + _SEAL.pack(xxhash.xxh3_64_intdigest(packed))


def _unsealed(content: bytes, length: int, name: str) -> bytes:
    if len(content) < length:
        raise UnreadableError(f"{name} is cut off", short=True)
    packed, seal = content[: -_SEAL.size], content[-_SEAL.size :]
    if _SEAL.pack(xxhash.xxh3_64_intdigest(packed)) != seal:
        raise UnreadableError(f"{name} has another checksum than when it was written")
    return packed
