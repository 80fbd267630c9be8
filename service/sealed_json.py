"""A small JSON file that is made of events: replaced whole, under a checksum of what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import xxhash

from retrieval.errors import StoreDamagedError, StoreError, StoreForeignError
from retrieval.manifest import write_durably

T = TypeVar("T")
CURE = "shelfwise events refresh makes it anew"


class _Schema(msgspec.Struct, frozen=True):
    schema: int


@dataclass(frozen=True, slots=True)
class SealedJson(Generic[T]):
    """What such a file holds: {"schema", "made", "xxh3" of the bytes that follow, and by `field` what it is about}."""

    field: str
    schema: int
    """Counts up when the file changes so that an older program could not read it."""
    content: msgspec.json.Decoder[T]

    def write(self, path: Path, content: T, made: datetime) -> None:
        """Replaces the file; raises StoreError where it cannot be written."""
        told = msgspec.json.encode(content)
        whole = {"schema": self.schema, "made": made, "xxh3": xxhash.xxh3_64_hexdigest(told)}
        try:
            write_durably(path, msgspec.json.encode({**whole, self.field: msgspec.Raw(told)}))
        except OSError as error:
            message = f"{path} cannot be written ({error.strerror}); see to the disk and to the rights"
            raise StoreError(message) from error

    def read(self, path: Path, most_bytes: int, problem: Callable[[T], str] = lambda _: "") -> T | None:
        """What the file of at most so many bytes holds; None where there is none. `problem` says what is wrong with
        the content, or nothing.

        Raises StoreDamagedError for a file that cannot be read or is not whole, StoreForeignError for one of another
        schema.
        """
        fields = [("schema", int), ("made", datetime), ("xxh3", str), (self.field, msgspec.Raw)]
        whole: Any = msgspec.defstruct("Sealed", fields)
        try:
            with path.open("rb") as file:
                said = file.read(most_bytes + 1)
            if len(said) > most_bytes:
                raise StoreDamagedError(f"{path} has more than {most_bytes:,} bytes; {CURE}")
            if (schema := msgspec.json.decode(said, type=_Schema).schema) != self.schema:
                raise StoreForeignError(f"{path} is in schema {schema}, this program reads {self.schema}; {CURE}")
            sealed = msgspec.json.decode(said, type=whole)
            told = bytes(getattr(sealed, self.field))
            content = self.content.decode(told)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StoreDamagedError(f"{path} cannot be read ({error}); {CURE}") from error
        if sealed.xxh3 != xxhash.xxh3_64_hexdigest(told):
            raise StoreDamagedError(f"{path} has another checksum than when it was written; {CURE}")
        if found := problem(content):
            raise StoreDamagedError(f"{path} {found}; {CURE}")
        return content
