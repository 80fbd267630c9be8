"""A small JSON file that is made of events: replaced whole, under a checksum of what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from retrieval.errors import StoreDamagedError
from service.sealed_files import CURE, Schema, bounded_bytes, check_schema, check_sum, checksum_of, replace_file

T = TypeVar("T")


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
        whole = {"schema": self.schema, "made": made, "xxh3": checksum_of(told)}
        replace_file(path, msgspec.json.encode({**whole, self.field: msgspec.Raw(told)}))

    def read(self, path: Path, most_bytes: int, problem: Callable[[T], str] = lambda _: "") -> T | None:
        """What the file of at most so many bytes holds; None where there is none. `problem` says what is wrong with
        the content, or nothing.

        Raises StoreDamagedError for a file that cannot be read or is not whole, StoreForeignError for one of another
        schema.
        """
        fields = [("schema", int), ("made", datetime), ("xxh3", str), (self.field, msgspec.Raw)]
        whole: Any = msgspec.defstruct("Sealed", fields)
        try:
            said = bounded_bytes(path, most_bytes)
            check_schema(path, msgspec.json.decode(said, type=Schema), self.schema)
            sealed = msgspec.json.decode(said, type=whole)
            told = bytes(getattr(sealed, self.field))
            content = self.content.decode(told)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StoreDamagedError(f"{path} cannot be read ({error}); {CURE}") from error
        check_sum(path, told, sealed.xxh3)
        if found := problem(content):
            raise StoreDamagedError(f"{path} {found}; {CURE}")
        return content
