"""All errors that Shelfwise raises on purpose. A message names the thing, what was wrong, what is right, what to do.

ShelfwiseError
├── InputError     FeedError, RowError, QueryError > PictureError > PictureUnavailableError, FilterError,
│                  UnknownFieldError, UnknownProductError, OutsideFilterError, ChangeError, RuleError, SynonymError,
│                  RelevanceError, RelationError, ExperimentError, CampaignError, EventError, UnknownTaskError,
│                  JudgmentsError, SettingError
├── StoreError     StoreMissingError, StoreForeignError, StoreDamagedError, StoreLockedError, UnknownVersionError,
│                  EmptyCatalogError, PublishRefusedError
├── ClusterError   ClusterUnavailableError, ClusterRefusedError
├── EncoderError   EncoderUnavailableError, EncoderMismatchError
├── ModelError     UnknownModelError, ModelDamagedError, ModelMismatchError, ModelRefusedError, RankerLateError,
│                  TrainingError > NothingBetterError
├── MissingExtraError
├── WorkerError
└── TaskFailedError
"""

from __future__ import annotations

from collections.abc import Callable, Iterable


class ShelfwiseError(Exception):
    """The root: catching it catches every error that Shelfwise raises on purpose."""


class InputError(ShelfwiseError):
    """The caller's input cannot be used."""


class _ReasonedError(InputError):
    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class FeedError(InputError):
    """A feed or a mapping file cannot be used at all."""


class RowError(_ReasonedError):
    """One row of a feed cannot be used; `reason` is short and the same for all rows with this fault."""


class QueryError(InputError):
    """A search request that cannot be answered."""


class PictureError(QueryError):
    """A picture that cannot be fetched, or decoded within limits; the message is the reason, without a subject."""


class PictureUnavailableError(PictureError):
    """A picture whose server does not respond at present; `wait` is the pause that it requests, in seconds."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class FilterError(InputError):
    """A filter expression that cannot be parsed.

    `column` counts characters of the expression from 1; `expected` lists what could be there.
    """

    def __init__(self, message: str, column: int, expected: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.column, self.expected = column, expected


class UnknownFieldError(InputError):
    """A field that the catalog does not have; `close` has the most similar names that it does have."""

    def __init__(self, message: str, field: str, close: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.field, self.close = field, close


class UnknownProductError(InputError):
    """A product id that is not in the index."""


class OutsideFilterError(InputError):
    """A live change of a product that does not pass the caller's filter, before the change or after it."""


class ChangeError(InputError):
    """A live change is invalid; `product` is the id that it names, `field` the invalid field, if any."""

    def __init__(self, message: str, product: str = "", field: str = "") -> None:
        super().__init__(message)
        self.product, self.field = product, field


class DocumentError(InputError):
    """A document of a store is invalid or missing; `document` is its id, `field` the invalid field, if any."""

    def __init__(self, message: str, document: str = "", field: str = "") -> None:
        super().__init__(message)
        self.document, self.field = document, field


class RuleError(DocumentError):
    """A merchandising rule is invalid or missing."""


class SynonymError(DocumentError):
    """A stored synonym is invalid or missing."""


class RelationError(DocumentError):
    """A correction of a relation is invalid or missing."""


class RelevanceError(DocumentError):
    """Relevance settings are invalid."""


class FaqError(DocumentError):
    """A text for answers is invalid or missing."""


class ExperimentError(DocumentError):
    """An experiment is invalid or missing."""


class CampaignError(DocumentError):
    """A sponsored campaign is invalid or missing."""


class EventError(_ReasonedError):
    """An event is invalid; `reason` is short and the same for all events with this fault."""


class UnknownTaskError(InputError):
    """A task that the index does not have."""


class JudgmentsError(InputError):
    """A judgments file that cannot be read."""


class SettingError(InputError):
    """A setting or option with an invalid value."""


class StoreError(ShelfwiseError):
    """The index directory cannot be used as requested."""


class StoreMissingError(StoreError):
    """Nothing is published in this directory."""


class StoreForeignError(StoreError):
    """The directory has content that Shelfwise did not write, or wrote in a schema that it no longer reads."""


class StoreDamagedError(StoreError):
    """A file of a version is missing or short, or its checksum differs from the manifest."""


class StoreLockedError(StoreError):
    """Another rebuild holds the lock."""


class UnknownVersionError(StoreError):
    """A version that the index does not have; the message lists those that it has."""


class EmptyCatalogError(StoreError):
    """A version without products is never published."""


class PublishRefusedError(StoreError):
    """A publish would lose more of the catalog than it may; the message has the numbers."""


class ClusterError(ShelfwiseError):
    """The Elasticsearch cluster cannot be used as requested."""


class ClusterUnavailableError(ClusterError):
    """The cluster does not respond, or not before its deadline; the request may be retried."""


class ClusterRefusedError(ClusterError):
    """The cluster responds and refuses; retrying does not help until the cause is corrected."""


class MissingExtraError(ShelfwiseError):
    """A library of an extra is not installed; the message has the command that installs it."""


class WorkerError(ShelfwiseError):
    """A worker process ended before its work was done, probably for lack of memory."""


class TaskFailedError(ShelfwiseError):
    """A task of the service failed."""


class EncoderError(ShelfwiseError):
    """The model that computes vectors cannot be used as requested."""


class EncoderUnavailableError(EncoderError):
    """The model cannot be found or loaded."""


class EncoderMismatchError(EncoderError):
    """The model's vectors have another dimension or kind than those of the index."""


RANKER, USER_TOWER, EXPANSION = "ranker", "user_tower", "expansion"
"""The families of stored models."""


class ModelError(ShelfwiseError):
    """A stored model cannot be used as requested; `family` is RANKER, USER_TOWER or EXPANSION."""

    def __init__(self, message: str = "", family: str = RANKER) -> None:
        super().__init__(message)
        self.family = family


class UnknownModelError(ModelError):
    """A model that the index does not have; the message lists those that it has."""


class ModelDamagedError(ModelError):
    """A file of a model is missing, short or unreadable, or its checksum has changed."""


class ModelMismatchError(ModelError):
    """A model of another format or for another index, or with features or operators that this program does not know."""


class ModelRefusedError(ModelError):
    """A model that was rejected because it was not better than the serving one; the message has the reason."""


class RankerLateError(ModelError):
    """A ranker returned no scores before the deadline: results keep the merged order."""


class TrainingError(ModelError):
    """A ranker cannot be trained with the available data; the message says what is missing."""


class NothingBetterError(TrainingError):
    """A training ended, or its loss became infinite, and no epoch was better than the model that it started from."""


_MIN_ALIKE = 65
_MAX_NAMES = 3


def close_names(name: str, known: Iterable[str], typed: Callable[[str], str] = str) -> tuple[str, ...]:
    """Up to three known names with similar spelling, most similar first; case does not count.

    `typed` returns the part of a name that people type, by which names are compared.
    """
    from rapidfuzz import fuzz, process

    spellings = {each: typed(each) for each in known}
    found = process.extract(
        typed(name), spellings, scorer=fuzz.ratio, processor=str.casefold, score_cutoff=_MIN_ALIKE, limit=_MAX_NAMES
    )
    return tuple(close for _, _, close in found)


def suggest_names(name: str, known: Iterable[str], otherwise: str) -> str:
    """The advice of an error message: "did you mean drills?", or `otherwise` if no known name is similar."""
    close = close_names(name, known)
    return f"did you mean {' or '.join(close)}?" if close else otherwise
