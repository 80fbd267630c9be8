"""Every error that Shelfwise raises on purpose. A message names the thing, what was wrong, what is right, what to do.

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
├── WorkerError
└── TaskFailedError
"""

from __future__ import annotations

from collections.abc import Callable, Iterable


class ShelfwiseError(Exception):
    """The root: catching it catches everything that Shelfwise refuses on purpose."""


class InputError(ShelfwiseError):
    """What the caller handed over cannot be used."""


class _ReasonedError(InputError):
    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class FeedError(InputError):
    """A feed or a mapping file cannot be used at all."""


class RowError(_ReasonedError):
    """One row of a feed cannot be used; `reason` is short and the same for every row with this fault."""


class QueryError(InputError):
    """A search request is outside what can be answered."""


class PictureError(QueryError):
    """A picture that cannot be fetched, or cannot be decoded within bounds; the message says why, without a subject."""


class PictureUnavailableError(PictureError):
    """A picture whose server does not respond for now; `wait` are the seconds that it asks to be left alone for."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class FilterError(InputError):
    """A filter expression that cannot be read.

    `column` counts characters of the expression from 1; `expected` says what could stand there.
    """

    def __init__(self, message: str, column: int, expected: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.column, self.expected = column, expected


class UnknownFieldError(InputError):
    """A field that the catalog does not have; `close` holds the nearest names that it does have."""

    def __init__(self, message: str, field: str, close: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.field, self.close = field, close


class UnknownProductError(InputError):
    """A product id that the index does not hold."""


class OutsideFilterError(InputError):
    """A live change of a product that does not pass the caller's filter, before the change or after it."""


class ChangeError(InputError):
    """A live change is invalid; `product` is the id that it names, `field` the field that is wrong, if one is."""

    def __init__(self, message: str, product: str = "", field: str = "") -> None:
        super().__init__(message)
        self.product, self.field = product, field


class RuleError(InputError):
    """A merchandising rule is invalid; `rule` is its id, `field` the field that is wrong, if one is."""

    def __init__(self, message: str, rule: str = "", field: str = "") -> None:
        super().__init__(message)
        self.rule, self.field = rule, field


class SynonymError(InputError):
    """A stored synonym is invalid or missing; `synonym` is its id, `field` the field that is wrong, if one is."""

    def __init__(self, message: str, synonym: str = "", field: str = "") -> None:
        super().__init__(message)
        self.synonym, self.field = synonym, field


class RelationError(InputError):
    """A correction of a relation is invalid or missing; `relation` is its id, `field` the field that is wrong, if one
    is."""

    def __init__(self, message: str, relation: str = "", field: str = "") -> None:
        super().__init__(message)
        self.relation, self.field = relation, field


class RelevanceError(InputError):
    """Relevance settings are invalid; `field` is the field that is wrong, if one is."""

    def __init__(self, message: str, document: str = "", field: str = "") -> None:
        super().__init__(message)
        self.document, self.field = document, field


class FaqError(InputError):
    """A text for answers is invalid or missing; `entry` is its id, `field` the field that is wrong, if one is."""

    def __init__(self, message: str, entry: str = "", field: str = "") -> None:
        super().__init__(message)
        self.entry, self.field = entry, field


class ExperimentError(InputError):
    """An experiment is invalid or missing; `experiment` is the id of a missing one, `field` the field that is wrong, if
    one is."""

    def __init__(self, message: str, experiment: str = "", field: str = "") -> None:
        super().__init__(message)
        self.experiment, self.field = experiment, field


class CampaignError(InputError):
    """A sponsored campaign is invalid or missing; `campaign` is its id, `field` the field that is wrong, if one is."""

    def __init__(self, message: str, campaign: str = "", field: str = "") -> None:
        super().__init__(message)
        self.campaign, self.field = campaign, field


class EventError(_ReasonedError):
    """An event is invalid; `reason` is short and the same for every event with this fault."""


class UnknownTaskError(InputError):
    """A task that the index does not have."""


class JudgmentsError(InputError):
    """A judgments file that cannot be read."""


class SettingError(InputError):
    """A setting or an option with a value that cannot be used."""


class StoreError(ShelfwiseError):
    """The index directory cannot be used as asked."""


class StoreMissingError(StoreError):
    """Nothing is published at this place."""


class StoreForeignError(StoreError):
    """The directory holds something that Shelfwise did not write, or wrote in a schema it no longer reads."""


class StoreDamagedError(StoreError):
    """A file of a version is missing, short or has another checksum than its manifest says."""


class StoreLockedError(StoreError):
    """Another rebuild holds the lock."""


class UnknownVersionError(StoreError):
    """A version that the index does not hold; the message names those that it does."""


class EmptyCatalogError(StoreError):
    """A version without products is never published."""


class PublishRefusedError(StoreError):
    """A publish would lose more of the catalog than it may; the message has the numbers."""


class ClusterError(ShelfwiseError):
    """The Elasticsearch cluster cannot be used as asked."""


class ClusterUnavailableError(ClusterError):
    """The cluster does not respond, or not before its deadline; what was asked may be tried again."""


class ClusterRefusedError(ClusterError):
    """The cluster answers and refuses; trying again does not help before something is put right."""


class WorkerError(ShelfwiseError):
    """A worker process ended before its work was done, most likely for want of memory."""


class TaskFailedError(ShelfwiseError):
    """A task of the service failed."""


class EncoderError(ShelfwiseError):
    """The model that makes vectors cannot be used as asked."""


class EncoderUnavailableError(EncoderError):
    """The model cannot be found or loaded."""


class EncoderMismatchError(EncoderError):
    """The model makes vectors of another dimension or kind than the index holds."""


RANKER, USER_TOWER, EXPANSION = "ranker", "user_tower", "expansion"
"""The families of stored models."""


class ModelError(ShelfwiseError):
    """A stored model cannot be used as asked; `family` is RANKER, USER_TOWER or EXPANSION."""

    def __init__(self, message: str = "", family: str = RANKER) -> None:
        super().__init__(message)
        self.family = family


class UnknownModelError(ModelError):
    """The index does not hold the model; the message names those that it holds."""


class ModelDamagedError(ModelError):
    """A file of a model is missing, short or unreadable, or has another checksum than when it was written."""


class ModelMismatchError(ModelError):
    """A model of another format or for another index, or with features or operators that this program does not know."""


class ModelRefusedError(ModelError):
    """A model that was rejected, as it was not better than the one that served; the message says why."""


class RankerLateError(ModelError):
    """A ranker gave no scores by the deadline: results keep the merged order."""


class TrainingError(ModelError):
    """A ranker cannot be trained on what is there; the message says what is missing."""


class NothingBetterError(TrainingError):
    """A training ended, or its loss became infinite, and no epoch was better than the model that it began with."""


_LEAST_ALIKE = 65
_MOST = 3


def close_names(name: str, known: Iterable[str], typed: Callable[[str], str] = str) -> tuple[str, ...]:
    """Up to three known names that are spelled nearly so, nearest first; case does not count.

    `typed` gives the part of a name that people type, by which names are compared.
    """
    from rapidfuzz import fuzz, process

    spellings = {each: typed(each) for each in known}
    found = process.extract(
        typed(name), spellings, scorer=fuzz.ratio, processor=str.casefold, score_cutoff=_LEAST_ALIKE, limit=_MOST
    )
    return tuple(close for _, _, close in found)


def suggest_names(name: str, known: Iterable[str], otherwise: str) -> str:
    """The advice of an error message: "did you mean drills?", or `otherwise` where no known name is close."""
    close = close_names(name, known)
    return f"did you mean {' or '.join(close)}?" if close else otherwise
