"""What stands for an encoder whose files are damaged: it encodes nothing, so products are found by words alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from retrieval.errors import EncoderUnavailableError


@dataclass(frozen=True, slots=True)
class LostEncoder:
    """An encoder of which only the name and the dimension are left, and why."""

    identity: str
    dimension: int
    reason: str

    def encode_queries(self, _texts: Sequence[str], /) -> NoReturn:
        """Raises EncoderUnavailableError."""
        raise self._error()

    def encode_products(self, _texts: Sequence[str], _progress: Callable[[int], None] | None = None, /) -> NoReturn:
        """Raises EncoderUnavailableError."""
        raise self._error()

    def _error(self) -> EncoderUnavailableError:
        return EncoderUnavailableError(f"{self.reason}; a rebuild stores the encoder anew")
