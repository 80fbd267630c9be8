"""Team-draft interleaving: two lists in one, so that clicks on it tell which list is liked better."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain

FIRST, SECOND, NOBODY = "a", "b", "-"
"""Which list placed a hit: the first variant's or the second's; nobody's count for neither."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One list made of two."""

    ids: tuple[str, ...]
    teams: str
    """For each place a letter: `FIRST`, `SECOND` or `NOBODY`."""


def team_draft(
    first: Sequence[str], second: Sequence[str], depth: int, seed: bytes, held: Collection[str] = ()
) -> Draft:
    """The first `depth` places of two lists of ids, interleaved.

    Radlinski, Kurup & Joachims 2008, How Does Clickthrough Data Reflect Retrieval Quality?, section 4: the lists take
    turns as captains do who pick players; in each round a coin says who picks first, and each picks its best product
    that is not taken yet. The coins come of `seed` alone. Place n depends on the first n of each list and no others, so
    a longer draft with the same seed begins as a shorter one: pages neither repeat nor lose a product. Where one list
    has ended, the rest of the other follows, which nobody picked. What is `held`, both lists have at the same place:
    there it stays, and nobody picked it.
    """
    places = {place: each for place, each in enumerate(first[:depth]) if each in held}
    own, others = ([each for each in found if each not in held] for found in (first, second))
    drafted = _drafted(own, others, depth - len(places), seed)
    if not places:
        return Draft(tuple(drafted), "".join(drafted.values()))
    picked, woven = iter(drafted.items()), list[tuple[str, str]]()
    for place in range(depth):
        found = (places[place], NOBODY) if place in places else next(picked, None)
        woven += [found] if found else []
    return Draft(tuple(each for each, _ in woven), "".join(team for _, team in woven))


def _drafted(first: Sequence[str], second: Sequence[str], depth: int, seed: bytes) -> dict[str, str]:
    """Each id with its team, in their order."""
    taken: dict[str, str] = {}
    lists = {FIRST: iter(first), SECOND: iter(second)}
    number = 0
    while len(taken) < depth:
        for team in (FIRST, SECOND) if _coin(seed, number) else (SECOND, FIRST):
            picked = next((each for each in lists[team] if each not in taken), None)
            if picked is None:
                rest = (each for each in chain(first, second) if each not in taken)
                return _cut(taken | dict.fromkeys(rest, NOBODY), depth)
            taken[picked] = team
        number += 1
    return _cut(taken, depth)


def _cut(taken: dict[str, str], depth: int) -> dict[str, str]:
    return dict(list(taken.items())[:depth])


def _coin(seed: bytes, number: int) -> bool:
    digest = hashlib.blake2b(number.to_bytes(4, "big"), key=seed[:64], digest_size=1).digest()
    return bool(digest[0] & 1)
