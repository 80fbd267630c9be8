"""Rules of the quality report: their fields and checks, and the TOML files that declare them.

The built-in rules are in `rules.toml`; a store's own rules are in a file of the same format. Only the predefined checks
and fields can be named: no part of a rule file is run as code.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import polars as pl

from shelfwise.indexer.quality import derived
from shelfwise.indexer.quality.derived import InspectedProduct
from shelfwise.retrieval.errors import SettingError, suggest_names
from shelfwise.retrieval.records import AttributeValue, Product
from shelfwise.retrieval.updates.validation import convert_document, read_document


class Measure(StrEnum):
    """The measures of data quality."""

    COMPLETENESS = "completeness"
    CONSISTENCY = "consistency"
    ACCURACY = "accuracy"
    TIMELINESS = "timeliness"


class Severity(StrEnum):
    """An error is visible to shoppers, a warning makes a product harder to find, an info is worth a check."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class QualityCheck(StrEnum):
    """Check of a field. A field without a value passes every check except `not_null`."""

    NOT_NULL = "not_null"
    NULL = "null"
    BETWEEN = "between"
    IN_SET = "in_set"
    NOT_IN_SET = "not_in_set"
    REGEX = "regex"
    NOT_REGEX = "not_regex"
    COMPARE = "compare"
    UNIQUE = "unique"
    NO_COPIES = "no_copies"
    NO_NEAR_COPIES = "no_near_copies"


ACROSS_ROWS = frozenset({QualityCheck.UNIQUE, QualityCheck.NO_COPIES, QualityCheck.NO_NEAR_COPIES})
"""Checks that need all rows."""


class RuleScope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The products to which a rule applies: those with a value in `field` that equals, or starts with, a text (ignoring
    case); with neither text, those with any value.
    """

    field: str
    equals: str = ""
    starts: str = ""


_Text = Annotated[str, msgspec.Meta(pattern=r"\S")]


class QualityRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A declared rule. `says` ends the sentence "The product ..."."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,60}\Z")]
    measure: Measure
    severity: Severity
    field: _Text
    check: QualityCheck
    says: _Text
    advice: _Text = ""
    values: tuple[str | int | float, ...] = ()
    """The set of in_set and not_in_set; minimum and maximum of between; the number or text of compare."""
    pattern: _Text = ""
    """The pattern of regex and not_regex, in the syntax of Rust's regex crate, which has no back references."""
    op: Literal["<", "<=", ">", ">=", "=", "!="] = ""  # type: ignore[assignment]
    """Operator of compare; empty for other checks."""
    other: _Text = ""
    """Field that compare uses instead of a value."""
    when: RuleScope | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        others = (self.other, self.when.field if self.when else "")
        return (self.field, *filter(None, others))


DAY = 86_400.0
_FREE_FIELD = re.compile(r"(attributes|identifiers)\..+", re.DOTALL)
_NUMERIC = frozenset({QualityCheck.BETWEEN, QualityCheck.COMPARE})


class FieldKind(StrEnum):
    """The type of a field's values. A time is in seconds since 1970, UTC."""

    TEXT = "text"
    NUMBER = "number"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class RuleField:
    """A known field: its kind, and how its value is read (None: no value)."""

    kind: FieldKind
    read: Callable[[InspectedProduct], object]


def _each(kind: FieldKind, read: Callable[[Product], object]) -> RuleField:
    """A field whose value depends only on the product."""
    return RuleField(kind, lambda inspected: read(inspected.product))


def _days_from_now(days: int) -> RuleField:
    return RuleField(FieldKind.TIME, lambda inspected: inspected.now.timestamp() + days * DAY)


def _timestamp(name: str) -> Callable[[Product], float | None]:
    return lambda product: (time := getattr(product, name)) and time.timestamp()


def _text(name: str) -> Callable[[Product], str | None]:
    """Reads a text of the product itself; an empty text counts as no value."""
    return lambda product: getattr(product, name) or None


MOMENTS = {"now": 0, "soon": 1, "year_ago": -365}
"""Fields that are a time, in days from the inspection; "soon" is a day later, because of time zones."""
_TEXTS = ("id", "title", "description", "brand", "currency", "availability", "language")
FIELDS: Mapping[str, RuleField] = {
    **{name: _each(FieldKind.TEXT, _text(name)) for name in _TEXTS},
    **{name: _each(FieldKind.NUMBER, attrgetter(name)) for name in ("price", "rating", "rating_count")},
    **{name: _each(FieldKind.TIME, _timestamp(name)) for name in ("created", "updated", "expires")},
    "text": _each(FieldKind.TEXT, lambda product: f"{product.title}\n{product.description}"),
    "category": _each(FieldKind.TEXT, lambda product: " > ".join(product.category) or None),
    "image": _each(FieldKind.TEXT, lambda product: product.images[0] if product.images else None),
    # In bytes: a Chinese character has three.
    "title_length": _each(FieldKind.NUMBER, lambda product: len(product.title.encode())),
    "description_length": _each(FieldKind.NUMBER, lambda product: len(product.description.encode()) or None),
    "category_depth": _each(FieldKind.NUMBER, lambda product: len(product.category) or None),
    "image_count": _each(FieldKind.NUMBER, lambda product: len(product.images)),
    "variant_count": _each(FieldKind.NUMBER, lambda product: len(product.variants)),
    "regular_price": _each(FieldKind.NUMBER, lambda product: derived.number(product.attributes.get("regular_price"))),
    "stock": _each(FieldKind.NUMBER, derived.stock),
    "identifier": _each(FieldKind.TEXT, derived.identifier),
    "gtin": _each(FieldKind.TEXT, derived.trade_number),
    "broken_gtin": _each(FieldKind.TEXT, derived.broken_gtin),
    "variant_fault": _each(FieldKind.TEXT, derived.variant_fault),
    "odd_price": RuleField(FieldKind.TEXT, derived.odd_price),
    "odd_currency": RuleField(FieldKind.TEXT, derived.odd_currency),
    "odd_language": RuleField(FieldKind.TEXT, derived.odd_language),
    "other_language": RuleField(FieldKind.TEXT, derived.other_language),
    **{name: _days_from_now(days) for name, days in MOMENTS.items()},
}


def kind_of(name: str, check: QualityCheck, *, number: bool = True) -> FieldKind:
    """The kind of a field's values for a check: a free attribute is a number if numbers are compared, unless `number`
    is false, else a text.
    """
    if name in FIELDS:
        return FIELDS[name].kind
    return FieldKind.NUMBER if name.startswith("attributes.") and check in _NUMERIC and number else FieldKind.TEXT


def read_field(name: str, kind: FieldKind, inspected: InspectedProduct) -> object:
    """The value of a field, None if the product has none."""
    if name in FIELDS:
        return FIELDS[name].read(inspected)
    container, _, key = name.partition(".")
    if container == "identifiers":
        return next(iter(inspected.product.identifiers.get(key, ())), None)
    read = derived.number if kind is FieldKind.NUMBER else _spelled
    return read(inspected.product.attributes.get(key))


def all_values(name: str, batch: Sequence[InspectedProduct]) -> tuple[list[int], list[str]]:
    """All texts that the products have in a field, for uniqueness (a product may have several identifiers), preceded by
    the index of each one's product in the batch.
    """
    pairs = [(index, value) for index, each in enumerate(batch) for value in _values(name, each)]
    return [index for index, _ in pairs], [value for _, value in pairs]


def _values(name: str, inspected: InspectedProduct) -> Iterable[str]:
    container, _, key = name.partition(".")
    if name == "gtin":
        return [number for _, number in derived.trade_numbers(inspected.product)]
    if container == "identifiers":
        return inspected.product.identifiers.get(key, ())
    value = read_field(name, FieldKind.TEXT, inspected)
    return () if value is None else (str(value),)


def _spelled(value: AttributeValue | None) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(value) or None
    return f"{value:.12g}" if isinstance(value, int | float) else value


BUILT_IN = Path(__file__).with_name("rules.toml")

_OPERANDS: Mapping[QualityCheck, tuple[str, ...]] = {
    QualityCheck.BETWEEN: ("min", "max"),
    QualityCheck.IN_SET: ("values",),
    QualityCheck.NOT_IN_SET: ("values",),
    QualityCheck.REGEX: ("pattern",),
    QualityCheck.NOT_REGEX: ("pattern",),
    QualityCheck.COMPARE: ("op", "value", "other"),
}
_MAX_RULES = 200
_TAKES = {
    QualityCheck.BETWEEN: FieldKind.NUMBER,
    **dict.fromkeys((QualityCheck.REGEX, QualityCheck.NOT_REGEX, QualityCheck.UNIQUE), FieldKind.TEXT),
}


@cache
def built_in_rules() -> tuple[QualityRule, ...]:
    """The rules that every report has."""
    return load_rules(BUILT_IN)


def merge_custom_rules(path: str | Path) -> tuple[QualityRule, ...]:
    """The built-in rules and a store's own; an own rule replaces the built-in rule of its name.

    Raises SettingError for a file that cannot be read or contains anything but rules.
    """
    return tuple({rule.name: rule for rule in (*built_in_rules(), *load_rules(path))}.values())


def load_rules(path: str | Path) -> tuple[QualityRule, ...]:
    """The rules of one TOML file.

    Raises SettingError for invalid content, with file, rule, key and the correction.
    """
    document = read_document(Path(path), SettingError)
    entries = document.get("rule") if isinstance(document, dict) and document.keys() == {"rule"} else None
    if not isinstance(entries, list):
        raise SettingError(f"rules {path}: expected only [[rule]] tables, one for each rule")
    if len(entries) > _MAX_RULES:
        raise SettingError(f"rules {path}: has {len(entries)} rules; at most {_MAX_RULES} are allowed")
    rules = []
    for number, entry in enumerate(entries, 1):
        origin = f"rules {path}: rule {entry.get('name', number) if isinstance(entry, dict) else number!r}"
        table = convert_document(entry, _RuleTable, origin, lambda message, *_: SettingError(message), _ALLOWED)
        # Worker processes get the rules: one that is read from a pickle must not be checked as a table again.
        rules.append(QualityRule(*(getattr(table, key) for key in QualityRule.__struct_fields__)))
    names = [rule.name for rule in rules]
    name, count = max(Counter(names).items(), key=lambda each: each[1], default=("", 0))
    if count > 1:
        raise SettingError(f"rules {path}: rule {name!r} occurs {count} times; give each rule its own name")
    return tuple(rules)


class _RuleTable(QualityRule, frozen=True, forbid_unknown_fields=True):
    """A rule as one table of a file declares it."""

    values: list[str | int | float] | None = None  # type: ignore[assignment]
    min: float | None = None
    max: float | None = None
    value: str | float | None = None
    when: RuleScope | str | None = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Raises ValueError unless the table has the keys of its check, and its field has the kind of the check."""
        operands = {key: getattr(self, key) for keys in _OPERANDS.values() for key in keys}
        names = _OPERANDS.get(self.check, ())
        for key, operand in operands.items():
            is_missing = operand is None or (operand == "" and key != "value")
            if key not in names and not is_missing:
                raise ValueError(f"{key} is not a key of a rule with check {self.check.value!r}")
            if key in names and key not in ("value", "other") and is_missing:
                raise ValueError(f"{key} is missing")
        self._check_field("field", self.field, self.check)
        if self.check is QualityCheck.BETWEEN and operands["min"] > operands["max"]:
            raise ValueError(f"min is {self.min}, more than max, which is {self.max}")
        kind = kind_of(self.field, self.check)
        if self.values is not None and (not self.values or not all(_fits(one, kind) for one in self.values)):
            raise ValueError(f"values is {self.values!r}; expected a list of {kind.value}s")
        if self.check is QualityCheck.COMPARE:
            self._check_comparison(kind)
        try:
            pl.select(pl.lit("").str.extract(self.pattern, 0))
        except pl.exceptions.ComputeError as error:
            raise ValueError(f"pattern is not a regular expression: {' '.join(str(error).split())}") from error
        scope = RuleScope(self.when) if isinstance(self.when, str) else self.when
        if scope is not None:
            has_text = scope.equals or scope.starts
            self._check_field("when", scope.field, QualityCheck.IN_SET if has_text else QualityCheck.NOT_NULL)
        values = self.values or [one for one in (self.min, self.max, self.value) if one is not None]
        msgspec.structs.force_setattr(self, "values", tuple(values))
        msgspec.structs.force_setattr(self, "when", scope)

    def _check_comparison(self, kind: FieldKind) -> None:
        if (self.value is None) == (self.other == ""):
            raise ValueError("value and other: a compare rule has only one of them")
        if self.other:
            self._check_field("other", self.other, QualityCheck.COMPARE)
            if (other := kind_of(self.other, QualityCheck.COMPARE)) is not kind:
                names = f"{self.field} is a {kind.value}, {self.other} is a {other.value}"
                raise ValueError(f"other: {names}: they cannot be compared")
        elif not _fits(self.value, kind := kind_of(self.field, self.check, number=not isinstance(self.value, str))):
            raise ValueError(f"value is {self.value!r}; expected a {kind.value}")

    def _check_field(self, key: str, name: str, check: QualityCheck) -> None:
        if check in (QualityCheck.NO_COPIES, QualityCheck.NO_NEAR_COPIES):
            if name != "product":
                raise ValueError(f"{key} is {name!r}; {check.value} needs the field 'product'")
            return
        if name not in FIELDS and not _FREE_FIELD.fullmatch(name):
            names = (*FIELDS, "attributes.NAME", "identifiers.KIND")
            advice = suggest_names(name, names, f"expected one of {', '.join(names)}")
            raise ValueError(f"{key} is {name!r}, which products do not have; {advice}")
        kind = kind_of(name, check)
        right = FieldKind.TEXT if key == "when" and check is QualityCheck.IN_SET else _TAKES.get(check, kind)
        if kind is not right:
            raise ValueError(f"{key} is {name!r}, a {kind.value}; {check.value} needs a {right.value}")


_ALLOWED = {"name": "lower-case letters, digits and underscores"}


def _fits(value: object, kind: FieldKind) -> bool:
    if kind is FieldKind.TEXT:
        return isinstance(value, str)
    return kind is FieldKind.NUMBER and isinstance(value, int | float) and not isinstance(value, bool)


_TYPES = {FieldKind.TEXT: pl.String, FieldKind.NUMBER: pl.Float64, FieldKind.TIME: pl.Float64}
_STAND_IN = {FieldKind.TEXT: pl.lit("-"), FieldKind.NUMBER: pl.lit(0.0), FieldKind.TIME: pl.lit(0.0)}
"""The value that not_null sees if its rule does not apply."""


def base_frame(batch: Sequence[InspectedProduct], rules: Sequence[QualityRule], fields: Sequence[str]) -> pl.DataFrame:
    """A column for each field that a rule reads or that `fields` names, named by `column_of`."""
    wanted = {column_of(name, FIELDS[name].kind): (name, FIELDS[name].kind) for name in fields}
    for rule in rules:
        for name in rule.fields:
            kind = _kind(name, rule)
            wanted.setdefault(column_of(name, kind), (name, kind))
    return pl.DataFrame(
        [
            pl.Series(column, [read_field(name, kind, each) for each in batch], dtype=_TYPES[kind], strict=False)
            for column, (name, kind) in wanted.items()
        ]
    )


def rule_frame(base: pl.DataFrame, rules: Sequence[QualityRule]) -> pl.DataFrame:
    """One column for each rule, under its name, and one under `other_column` for a rule that compares two fields.

    All columns are computed in one fused pass. Conditions (`when`, the other field of a comparison) clear the column
    where the rule does not apply, so every check is simple.
    """
    return base.select(expression for rule in rules for expression in _expressions(rule))


def column_of(name: str, kind: FieldKind) -> str:
    """The name of a field's column in the base frame; a free attribute can be there both as a text and as a number."""
    return f"{name}:{kind.value}"


def other_column(rule: QualityRule) -> str:
    """The column of the field that a rule compares with."""
    return f"{rule.name}/other"


def _kind(name: str, rule: QualityRule) -> FieldKind:
    if rule.when is not None and name == rule.when.field:
        return kind_of(name, QualityCheck.IN_SET)
    return kind_of(name, rule.check, number=not any(isinstance(value, str) for value in rule.values))


def _expressions(rule: QualityRule) -> list[pl.Expr]:
    kind = _kind(rule.field, rule)
    value = pl.col(column_of(rule.field, kind))
    if rule.check is QualityCheck.NOT_REGEX:
        value = value.str.extract(rule.pattern, 0)  # the report shows the match
    if rule.when is not None:
        concerned = _is_in_scope(rule.when, _kind(rule.when.field, rule))
        stand_in = _STAND_IN[kind] if rule.check is QualityCheck.NOT_NULL else pl.lit(None)
        value = pl.when(concerned).then(value).otherwise(stand_in)
    if not rule.other:
        return [value.alias(rule.name)]
    other = pl.col(column_of(rule.other, _kind(rule.other, rule)))
    # A comparison with a missing value passes.
    value = pl.when(other.is_not_null()).then(value)
    return [value.alias(rule.name), other.alias(other_column(rule))]


def _is_in_scope(when: RuleScope, kind: FieldKind) -> pl.Expr:
    value = pl.col(column_of(when.field, kind))
    if when.equals:
        return (value.str.to_lowercase() == when.equals.lower()).fill_null(value=False)
    if when.starts:
        return value.str.to_lowercase().str.starts_with(when.starts.lower()).fill_null(value=False)
    return value.is_not_null()
