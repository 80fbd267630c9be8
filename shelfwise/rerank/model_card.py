"""Model cards (Mitchell et al. 2019, Model Cards for Model Reporting): a Markdown file beside each trained model.

Each training writes one: the data, the options, the gate's figures with their intervals, the slices, the limits, and
the uses to avoid. It is made only from the model's spec and report, so that it agrees with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

from shelfwise.rerank.evaluation.promotion import ALL_QUERIES, MeasureComparison
from shelfwise.retrieval.errors import ModelDamagedError
from shelfwise.retrieval.value_texts import printable

CARD_FILE = "card.md"
Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelUse:
    """The intended use of a family of models."""

    purpose: str
    limits: tuple[str, ...]
    misuses: tuple[str, ...]
    """Uses to avoid."""


_LIMITS = (
    "It knows the catalog, the shoppers and the encoder of its training. About later products and queries it knows "
    "only what they have in common with earlier ones.",
    "A slice of fewer than 50 held-out queries decides nothing; it has no interval.",
    "An interval is of 95%: one in forty of models that are no better seems to be better by chance.",
)
_MISUSES = (
    "Decisions about people, such as who is shown which price. It is neither trained nor tested for them.",
    "Statements about the quality or the sales of a product: scores compare products for one query or shopper.",
    "Another store, before its gate has compared it there with what serves.",
)


def model_use(purpose: str, *limits: str) -> ModelUse:
    """A use with the limits of all families, and additional ones."""
    return ModelUse(purpose, (*limits, *_LIMITS), _MISUSES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """The content of a card."""

    title: str
    use: ModelUse
    created: str
    against: str
    """The reference of the gate; empty if the model was not compared."""
    reasons: Sequence[str]
    """The reasons why it may serve, or may not."""
    is_rejected: bool
    facts: Facts
    """Facts about the model: encoder, parent."""
    data: Facts
    options: Facts
    measured_on: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)
    comparisons: Sequence[MeasureComparison] = ()
    """The gate's comparisons, those over all data first."""

    def markdown(self) -> str:
        """The text of the card."""
        return "\n\n".join(self._parts()) + "\n"

    def _parts(self) -> Iterator[str]:
        yield f"# Model card: {self.title}"
        yield self.use.purpose
        decision = "rejected" if self.is_rejected else "published" if self.against else "not compared with what serves"
        facts = {"trained": self.created, "decision": decision, "compared with": self.against, **self.facts}
        yield _pairs({name: value for name, value in facts.items() if value not in ("", None)})
        if self.reasons:
            yield _items(self.reasons)
        yield f"## Data\n\n{_pairs(self.data) or 'Nothing is recorded.'}"
        yield f"## Options\n\n{_pairs(self.options) or 'None.'}"
        yield f"## Measures on held-out data\n\n{self.measured_on or 'See the comparisons.'}"
        if self.measures:
            yield _table(("measure", "value"), [(name, f"{value:.4f}") for name, value in self.measures.items()])
        for title, is_slice in (("Comparison", False), ("Slices", True)):
            rows = [_row(each) for each in self.comparisons if (each.slice != ALL_QUERIES) is is_slice]
            names = ("measure", "on", "queries", "new", "compared", "difference", "95% interval")
            yield f"## {title}\n\n{_table(names, rows) if rows else 'None was measured.'}"
        yield f"## Limits\n\n{_items(self.use.limits)}"
        yield f"## Not to be used for\n\n{_items(self.use.misuses)}"


def option_values(options: object, prefix: str = "") -> dict[str, str]:
    """The values of a dataclass of options by their dotted names."""
    values = asdict(options) if is_dataclass(options) and not isinstance(options, type) else options
    if not isinstance(values, Mapping):
        return {prefix: str(values)}
    named = ((f"{prefix}.{name}" if prefix else str(name), value) for name, value in values.items())
    return {name: text for key, value in named for name, text in option_values(value, key).items()}


def _row(each: MeasureComparison) -> tuple[str, ...]:
    count, found = f"{each.queries:,}" if each.queries else "", each.difference
    values = ("" if value is None else f"{value:.4f}" for value in (each.challenger, each.served))
    interval = (f"{found.mean:+z.4f}", f"{found.low:+z.4f} to {found.high:+z.4f}") if found else ("", "")
    return each.measure, each.slice, count, *values, *interval


def _pairs(facts: Facts) -> str:
    return _items(f"{name}: {value:,}" if type(value) is int else f"{name}: {value}" for name, value in facts.items())


def _items(texts: Sequence[str] | Iterator[str]) -> str:
    return "\n".join(f"- {_plain(each)}" for each in texts)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = (names, ["---"] * len(names), *rows)
    return "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in lines)


def _plain(text: str) -> str:
    """A text on one line, without characters that end a cell or begin markup: names come from catalogs."""
    return printable(" ".join(text.split())).replace("|", "\\|").replace("<", "&lt;").replace("`", "'")


def write_card(folder: Path, card: ModelCard) -> None:
    """Writes the card into a model's folder."""
    (folder / CARD_FILE).write_text(card.markdown(), "utf-8")


def read_card(folder: Path) -> str:
    """The text of a model's card; raises ModelDamagedError if it cannot be read."""
    try:
        return (folder / CARD_FILE).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelDamagedError(
            f"{folder / CARD_FILE} cannot be read ({error}); the next training writes one"
        ) from error
