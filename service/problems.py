"""What `shelfwise verify` finds: problems by part, and the products that each was seen in."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

_EXAMPLES = 5
NEW_DIRECTORY = (
    "its checksums are right, so it was published like this: let the version before serve (shelfwise rollback), "
    "rebuild into a new directory, and report it as a fault of Shelfwise"
)


class Problem(msgspec.Struct, frozen=True):
    """Something wrong with a version: the part that it is in, what it is, and what to do about it."""

    part: str
    what: str
    advice: str = NEW_DIRECTORY


class Verified(msgspec.Struct, frozen=True):
    """What was found out about a version. It is whole when there are no problems."""

    version: str
    products: int
    files: int
    bytes: int
    problems: tuple[Problem, ...]
    skipped: tuple[str, ...]
    """What could not be looked at, and why."""


@dataclass(slots=True)
class Tally:
    """How many products something is wrong with, and the ids of the first."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, product_id: str) -> None:
        """Counts one more product."""
        self.count += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(product_id)

    def problems(self, part: str, what: str) -> list[Problem]:
        """The problem, if any product has it."""
        if not self.count:
            return []
        named = ", ".join(self.examples) + (", ..." if self.count > len(self.examples) else "")
        counted = f"{self.count:,} products" if self.count > 1 else "1 product"
        return [Problem(part, f"{what}: {counted} ({named})")]
