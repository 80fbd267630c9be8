"""A file of arrays that is made of events: replaced whole, under a checksum of what it holds; read without a copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from retrieval.errors import StoreDamagedError, StoreError, StoreForeignError
from retrieval.manifest import write_durably
from service.sealed_json import CURE


class _Schema(msgspec.Struct, frozen=True):
    schema: int


class _Sealed(msgspec.Struct, frozen=True):
    """What such a file holds, as MessagePack."""

    schema: int
    made: datetime
    xxh3: str
    """Of the bytes of `arrays`."""
    arrays: msgspec.Raw
    """By name, each as its bytes."""


@dataclass(frozen=True, slots=True)
class SealedArrays:
    """How the files of one kind are written and read."""

    schema: int
    """Counts up when the file changes so that an older program could not read it."""
    kinds: Mapping[str, str]
    """The arrays, each of one axis, by name: numpy's name of their numbers, with the order of bytes."""

    def write(self, path: Path, arrays: Mapping[str, NDArray[Any]], made: datetime) -> None:
        """Replaces the file; raises StoreError where it cannot be written."""
        told = {name: np.ascontiguousarray(arrays[name], kind).tobytes() for name, kind in self.kinds.items()}
        content = msgspec.msgpack.encode(told)
        sealed = _Sealed(self.schema, made, xxhash.xxh3_64_hexdigest(content), msgspec.Raw(content))
        try:
            write_durably(path, msgspec.msgpack.encode(sealed))
        except OSError as error:
            message = f"{path} cannot be written ({error.strerror}); see to the disk and to the rights"
            raise StoreError(message) from error

    def read(self, path: Path, most_bytes: int) -> dict[str, NDArray[Any]] | None:
        """The arrays of a file of at most so many bytes, read-only; None where there is none.

        Raises StoreDamagedError for a file that cannot be read or is not whole, StoreForeignError for one of another
        schema.
        """
        try:
            with path.open("rb") as file:
                said = file.read(most_bytes + 1)
            if len(said) > most_bytes:
                raise StoreDamagedError(f"{path} has more than {most_bytes:,} bytes; {CURE}")
            if (schema := msgspec.msgpack.decode(said, type=_Schema).schema) != self.schema:
                raise StoreForeignError(f"{path} is in schema {schema}, this program reads {self.schema}; {CURE}")
            sealed = msgspec.msgpack.decode(said, type=_Sealed)
            if sealed.xxh3 != xxhash.xxh3_64_hexdigest(sealed.arrays):
                raise StoreDamagedError(f"{path} has another checksum than when it was written; {CURE}")
            told = msgspec.msgpack.decode(sealed.arrays, type=dict[str, memoryview])
            return {name: np.frombuffer(told[name], kind) for name, kind in self.kinds.items()}
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, ValueError, KeyError) as error:
            raise StoreDamagedError(f"{path} cannot be read ({error}); {CURE}") from error
