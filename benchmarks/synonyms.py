"""How good the synonyms are that shoppers' queries propose, on the demo store, whose own are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from service.demo.catalog import GRAMMARS
from service.synonyms.aligning import joined, split
from service.synonyms.proposal import Proposal


@dataclass(frozen=True, slots=True)
class Proposed:
    """What became of the proposals."""

    proposals: int
    right: int
    """Those both of whose sides the demo store's grammar has as names of one type."""
    planted: int
    """Words of the grammar that no title has, and that enough shoppers searched for."""
    found: int
    """Of them, those that a right proposal leads from."""
    wrong: tuple[str, ...]
    """Proposals that are not right, the strongest first."""
    precision_at: Mapping[int, float]
    """Of the strongest so many."""

    @property
    def precision(self) -> float:
        """The share of the proposals that are right."""
        return self.right / self.proposals if self.proposals else 1.0

    @property
    def recall(self) -> float:
        """The share of the planted words that are found."""
        return self.found / self.planted if self.planted else 1.0


_AT = (10, 25, 50, 100)


def judged(proposals: Sequence[Proposal], asked: Iterable[str]) -> Proposed:
    """Compares proposals with the grammar's names; `asked` are the queries of enough shoppers."""
    types, planted = _names()
    found: set[str] = set()
    marks: list[bool] = []
    wrong: list[str] = []
    for proposal in proposals:
        pairs = list(_pairs(proposal))
        is_right = all(types.get(one, set()) & types.get(other, set()) for one, other in pairs)
        marks.append(is_right)
        if is_right:
            found.update(phrase for pair in pairs for phrase in pair)
        else:
            wrong.append(proposal.synonym.line)
    reachable = planted & {_plain(query) for query in asked}
    precision_at = {size: sum(marks[:size]) / size for size in _AT if size <= len(marks)}
    return Proposed(len(marks), sum(marks), len(reachable), len(found & reachable), tuple(wrong), precision_at)


def _pairs(proposal: Proposal) -> Iterator[tuple[str, str]]:
    for one, other in product(proposal.phrases, proposal.to) if proposal.to else [proposal.phrases[:2]]:
        yield _plain(one), _plain(other)


def _names() -> tuple[dict[str, set[str]], set[str]]:
    """The types that each name is of, and the names that no title has."""
    types: dict[str, set[str]] = {}
    planted: set[str] = set()
    for kind in (kind for grammar in GRAMMARS for kind in grammar.types):
        for name in (*kind.names, *kind.also):
            types.setdefault(_plain(name), set()).add(kind.key)
        planted.update(map(_plain, kind.also))
    return types, planted


def _plain(phrase: str) -> str:
    return joined(split(phrase))
