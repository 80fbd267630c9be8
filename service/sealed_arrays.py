"""A file of arrays that is made of events: replaced whole, under a checksum of what it holds; read without a copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from retrieval.errors import StoreDamagedError
from service.sealed_files import CURE, Schema, bounded_bytes, check_schema, check_sum, checksum_of, replace_file


class _Sealed(Schema, frozen=True):
    """What such a file holds, as MessagePack."""

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
        sealed = _Sealed(self.schema, made, checksum_of(content), msgspec.Raw(content))
        replace_file(path, msgspec.msgpack.encode(sealed))

    def read(self, path: Path, most_bytes: int) -> dict[str, NDArray[Any]] | None:
        """The arrays of a file of at most so many bytes, read-only; None where there is none.

        Raises StoreDamagedError for a file that cannot be read or is not whole, StoreForeignError for one of another
        schema.
        """
        try:
            said = bounded_bytes(path, most_bytes)
            check_schema(path, msgspec.msgpack.decode(said, type=Schema), self.schema)
            sealed = msgspec.msgpack.decode(said, type=_Sealed)
            check_sum(path, sealed.arrays, sealed.xxh3)
            told = msgspec.msgpack.decode(sealed.arrays, type=dict[str, memoryview])
            return {name: np.frombuffer(told[name], kind) for name, kind in self.kinds.items()}
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, ValueError, KeyError) as error:
            raise StoreDamagedError(f"{path} cannot be read ({error}); {CURE}") from error
