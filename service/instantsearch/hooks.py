"""What the searches of a request need of whoever serves them: what may be seen, and who is told what was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from retrieval.records import Page
from service.experiments.serving import Answered, Asked
from service.suggesting.suggestions import Suggestions


@dataclass(frozen=True, slots=True)
class Hooks:
    """What whoever asks may see, and what is told of their searches."""

    narrowed: Callable[[str], str]
    """A filter expression narrowed to what whoever asks may see."""
    suggest: Callable[[str, int], Suggestions]
    """What may be meant by what was typed, so many queries at most, of what they may see."""
    answered: Callable[[Page], None]
    """Each page that the engine made."""
    tried: Callable[[Asked], Answered] | None
    """Answers a search as the experiments that run have it; None where none runs."""
    shown: Callable[[str, str, Page, str], None]
    """The query id, the query, the hits and the shopper of an answer that is to be learned from."""
