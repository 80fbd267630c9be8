"""What files that are made of events have in common: replaced whole, of bounded size, under a schema and a checksum."""

from __future__ import annotations

from pathlib import Path

import msgspec
import xxhash

from retrieval.errors import StoreDamagedError, StoreError, StoreForeignError
from retrieval.manifest import write_durably

CURE = "shelfwise events refresh makes it anew"


class Schema(msgspec.Struct, frozen=True):
    """What is read of such a file first."""

    schema: int


def replace_file(path: Path, content: bytes) -> None:
    """Replaces a file; raises StoreError where it cannot be written."""
    try:
        write_durably(path, content)
    except OSError as error:
        message = f"{path} cannot be written ({error.strerror}); see to the disk and to the rights"
        raise StoreError(message) from error


def bounded_bytes(path: Path, most: int) -> bytes:
    """All of a file; raises StoreDamagedError for one of more bytes than `most`, OSError where it cannot be read."""
    with path.open("rb") as file:
        said = file.read(most + 1)
    if len(said) > most:
        raise StoreDamagedError(f"{path} has more than {most:,} bytes; {CURE}")
    return said


def check_schema(path: Path, found: Schema, wanted: int) -> None:
    """Raises StoreForeignError for a file of another schema."""
    if found.schema != wanted:
        raise StoreForeignError(f"{path} is in schema {found.schema}, this program reads {wanted}; {CURE}")


def checksum_of(content: bytes | msgspec.Raw) -> str:
    """XXH3 (64 bits, hexadecimal), as such a file has it of what it holds."""
    return xxhash.xxh3_64_hexdigest(content)


def check_sum(path: Path, content: bytes | msgspec.Raw, said: str) -> None:
    """Raises StoreDamagedError where a file says another checksum than its content has."""
    if said != checksum_of(content):
        raise StoreDamagedError(f"{path} has another checksum than when it was written; {CURE}")
