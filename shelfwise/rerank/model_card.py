"""Model cards (Mitchell et al. 2019, Model Cards for Model Reporting): a Markdown file beside each trained model.

Each training writes one: the data, the options, the gate's figures with their intervals, the slices, the limits, and
the uses to avoid. It is made only from the model's spec and report, so that it agrees with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import msgspec

from shelfwise.rerank.evaluation.promotion import ALL_QUERIES, Decision, MeasureComparison
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


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    """The content of report.json in all families."""

    created: str = ""
    """ISO 8601, UTC; by default the time at which the model is added."""
    against: str = ""
    """The reference of the comparison: a model's name, or what serves without one."""
    rejection_reasons: tuple[str, ...] = ()
    """Empty for a model that was published."""
    options: Mapping[str, str] = {}
    """The options of the training, by dotted names."""
    measured_on: str = ""
    """The held-out data: figures can be compared only if it is equal."""
    measures: Mapping[str, float] = {}
    """Measures by name, such as nDCG@10, in the order of display."""
    decision: Decision | None = None
    """The gate's decision, if it compared measures."""

    @property
    def comparisons(self) -> Sequence[MeasureComparison]:
        """The gate's comparisons, over all data and on slices."""
        return self.decision.comparisons if self.decision else ()


def write_card(folder: Path, title: str, use: ModelUse, report: ModelReport, facts: Facts, data: Facts) -> None:
    """Writes the card into a model's folder. `facts` are about the model, such as its encoder and its parent; `data`
    are about its training data."""
    parts = "\n\n".join(_parts(title, use, report, facts, data))
    (folder / CARD_FILE).write_text(f"{parts}\n", "utf-8")


def _parts(title: str, use: ModelUse, report: ModelReport, facts: Facts, data: Facts) -> Iterator[str]:
    yield f"# Model card: {title}"
    yield use.purpose
    compared = "published" if report.against else "not compared with what serves"
    decision = "rejected" if report.rejection_reasons else compared
    facts = {"trained": report.created, "decision": decision, "compared with": report.against, **facts}
    yield _pairs({name: value for name, value in facts.items() if value not in ("", None)})
    if reasons := report.rejection_reasons or (report.decision.reasons if report.decision else ()):
        yield _items(reasons)
    yield f"## Data\n\n{_pairs(data) or 'Nothing is recorded.'}"
    yield f"## Options\n\n{_pairs(report.options) or 'None.'}"
    yield f"## Measures on held-out data\n\n{report.measured_on or 'See the comparisons.'}"
    if report.measures:
        yield _table(("measure", "value"), [(name, f"{value:.4f}") for name, value in report.measures.items()])
    for heading, is_slice in (("Comparison", False), ("Slices", True)):
        rows = [_row(each) for each in report.comparisons if (each.slice != ALL_QUERIES) is is_slice]
        names = ("measure", "on", "queries", "new", "compared", "difference", "95% interval")
        yield f"## {heading}\n\n{_table(names, rows) if rows else 'None was measured.'}"
    yield f"## Limits\n\n{_items(use.limits)}"
    yield f"## Not to be used for\n\n{_items(use.misuses)}"


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


def read_card(folder: Path) -> str:
    """The text of a model's card; raises ModelDamagedError if it cannot be read."""
    try:
        return (folder / CARD_FILE).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelDamagedError(
            f"{folder / CARD_FILE} cannot be read ({error}); the next training writes one"
        ) from error
