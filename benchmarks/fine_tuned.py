"""A teacher that is fine-tuned on judged queries before rankers learn from it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rerank.teacher.fine_tuning import FineTuningOptions, fine_tune
from rerank.teacher.graded_lists import GradedList, fingerprint
from rerank.teacher.teacher import Teacher, open_teacher
from rerank.training.lists import CandidateLists
from service.snapshot import Snapshot
from service.training.from_catalog import Progress, pairs_of


@dataclass(frozen=True, slots=True)
class FineTunedTeacher:
    """Which cross-encoder to fine-tune, and where it is kept."""

    name: str
    """Name or folder of the cross-encoder as it was."""
    folder: Path
    """Of fine-tuned ones; what was made of the same lists and epochs is not made again."""
    epochs: int = 1
    cache: Path = Path(".cache")
    options: FineTuningOptions = field(default_factory=FineTuningOptions)

    def open(
        self, snapshot: Snapshot, lists: CandidateLists, gains: NDArray[np.float32], progress: Progress
    ) -> Teacher:
        """Fine-tunes on all of `lists`, by the gains of their candidates (m,); what was interrupted goes on."""
        graded = _graded(snapshot, lists, gains)
        target = self.folder / f"{fingerprint(graded)}-{self.epochs}"
        if not target.exists():
            loop = replace(self.options.loop, epochs=self.epochs)
            options = replace(self.options, loop=loop)
            steps = -(-round(len(graded) * (1 - options.held_out)) // options.lists)
            progress.begin("fine-tuning", steps * self.epochs, "steps")
            tuned = fine_tune(
                self.name,
                graded,
                target,
                options,
                cache=self.cache,
                advance=lambda done, _loss: progress.advance(done),
            )
            curve = ", ".join(f"{epoch.validation:.4f}" for epoch in tuned.curve)
            progress.end(f"nDCG@10 of the queries held out by epoch: {curve}")
        return open_teacher(str(target), cache=self.cache)


def _graded(snapshot: Snapshot, lists: CandidateLists, gains: NDArray[np.float32]) -> list[GradedList]:
    _, texts = pairs_of(snapshot, lists)
    places = (lists.place(number) for number in range(len(lists)))
    return [
        GradedList(query, texts[place], gains[place].tolist())
        for query, place in zip(lists.queries, places, strict=True)
    ]
