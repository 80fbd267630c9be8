"""Reads rules: the built-in ones beside this file, and a store's own in a file of the same form (`--rules my.toml`).

Only the closed list of checks and fields can be named; nothing of a rule file is ever run as code.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import msgspec

from indexer.quality.fields import Kind, is_field, kind_of, known_fields
from indexer.quality.rule import Check, Measure, Rule, Severity, When
from retrieval.close_names import close_names
from retrieval.errors import SettingError

BUILT_IN = Path(__file__).with_name("rules.toml")
OPERATORS = ("<", "<=", ">", ">=", "=", "!=")

_COMMON = ("name", "measure", "severity", "field", "check", "says", "advice", "when")
_OPERANDS: Mapping[Check, tuple[str, ...]] = {
    Check.BETWEEN: ("min", "max"),
    Check.IN_SET: ("values",),
    Check.NOT_IN_SET: ("values",),
    Check.REGEX: ("pattern",),
    Check.NOT_REGEX: ("pattern",),
    Check.COMPARE: ("op", "value", "other"),
}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")
_MOST_RULES = 200
_OF_NUMBERS = (Check.BETWEEN,)
_OF_TEXT = (Check.REGEX, Check.NOT_REGEX, Check.UNIQUE)
_OF_PRODUCTS = (Check.NO_COPIES, Check.NO_NEAR_COPIES)


@cache
def built_in_rules() -> tuple[Rule, ...]:
    """The rules that every report has."""
    return load_rules(BUILT_IN)


def with_own_rules(path: str | Path) -> tuple[Rule, ...]:
    """The built-in rules and a store's own; an own rule with a built-in name takes that one's place.

    Raises SettingError for a file that cannot be read or says anything else than rules.
    """
    own = {rule.name: rule for rule in load_rules(path)}
    kept = {rule.name: rule for rule in built_in_rules()}
    return tuple({**kept, **own}.values())


def load_rules(path: str | Path) -> tuple[Rule, ...]:
    """The rules of one TOML file.

    Raises SettingError naming file, rule and key, with what is right, when anything in it cannot be used.
    """
    try:
        table = tomllib.loads(Path(path).read_text("utf-8-sig"))
    except OSError as error:
        raise SettingError(f"rules {path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise SettingError(f"rules {path}: is no TOML file: {error}") from error
    entries = table.get("rule")
    if table.keys() != {"rule"} or not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise SettingError(f"rules {path}: expected nothing but [[rule]] tables, one for each rule")
    if len(entries) > _MOST_RULES:
        raise SettingError(f"rules {path}: has {len(entries)} rules; at most {_MOST_RULES} are taken")
    rules = tuple(_RuleReader(path, number, entry).rule() for number, entry in enumerate(entries, 1))
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise SettingError(
                f"rules {path}: rule {name!r} is there {names.count(name)} times; give each its own name"
            )
    return rules


class _RuleReader:
    """One table of a rule file on its way to a Rule."""

    def __init__(self, path: str | Path, number: int, table: Mapping[str, object]) -> None:
        self._table = table
        self._place = f"rules {path}: rule {table.get('name', number)!r}"

    def rule(self) -> Rule:
        name = self._text("name")
        if not _NAME.fullmatch(name):
            raise self._fault("name", f"is {name!r}; a name has small letters, digits and underscores")
        check = Check(self._one_of("check", tuple(Check)))
        self._check_keys(check)
        field = self._field("field", self._text("field"), check)
        return Rule(
            name=name,
            measure=Measure(self._one_of("measure", tuple(Measure))),
            severity=Severity(self._one_of("severity", tuple(Severity))),
            field=field,
            check=check,
            says=self._text("says"),
            advice=self._text("advice") if "advice" in self._table else "",
            values=self._values(check, field),
            pattern=self._pattern() if check in (Check.REGEX, Check.NOT_REGEX) else "",
            op=self._one_of("op", OPERATORS) if check is Check.COMPARE else "",
            other=self._other(field) if "other" in self._table else "",
            when=self._when() if "when" in self._table else None,
        )

    def _check_keys(self, check: Check) -> None:
        right = (*_COMMON, *_OPERANDS.get(check, ()))
        for key in self._table:
            if key not in right:
                raise self._fault(key, f"is no key of a rule with check {check.value!r}; {_advice(key, right)}")

    def _values(self, check: Check, field: str) -> tuple[str | float, ...]:
        match check:
            case Check.BETWEEN:
                low, high = self._operand("min", Kind.NUMBER), self._operand("max", Kind.NUMBER)
                if float(low) > float(high):
                    raise self._fault("min", f"is {low}, more than max, which is {high}")
                return low, high
            case Check.IN_SET | Check.NOT_IN_SET:
                return self._set(kind_of(field, check))
            case Check.COMPARE if ("value" in self._table) == ("other" in self._table):
                raise self._fault("value", "and other: a compare has one of them")
            case Check.COMPARE if "value" in self._table:
                return (self._operand("value", self._compared(field)),)
            case _:
                return ()

    def _compared(self, field: str) -> Kind:
        """A free attribute is compared as what the value is."""
        return kind_of(field, Check.COMPARE, number=not isinstance(self._table.get("value"), str))

    def _set(self, kind: Kind) -> tuple[str | float, ...]:
        values = self._table.get("values")
        if not isinstance(values, list) or not values or not all(_fits(one, kind) for one in values):
            raise self._fault("values", f"is {values!r}; expected a list of {_KIND_NAMES[kind]}s")
        return tuple(values)

    def _operand(self, key: str, kind: Kind) -> str | float:
        value = self._table.get(key)
        if not _fits(value, kind):
            raise self._fault(key, f"is {value!r}; expected a {_KIND_NAMES[kind]}")
        return value if isinstance(value, str) else float(str(value))

    def _other(self, field: str) -> str:
        other = self._field("other", self._text("other"), Check.COMPARE)
        kinds = kind_of(field, Check.COMPARE), kind_of(other, Check.COMPARE)
        if kinds[0] is not kinds[1]:
            says = (
                f"{field} is a {_KIND_NAMES[kinds[0]]}, {other} is a {_KIND_NAMES[kinds[1]]}: they cannot be compared"
            )
            raise self._fault("other", says)
        return other

    def _pattern(self) -> str:
        from indexer.quality.frames import pattern_fault

        pattern = self._text("pattern")
        fault = pattern_fault(pattern)
        if fault:
            raise self._fault("pattern", f"is no regular expression: {fault}")
        return pattern

    def _when(self) -> When:
        content = self._table["when"]
        table = {"field": content} if isinstance(content, str) else content
        try:
            when = msgspec.convert(table, When)
        except msgspec.ValidationError as error:
            raise self._fault("when", f"expected a field, or field with equals or starts: {error}") from error
        if isinstance(table, dict) and (extra := set(table) - {"field", "equals", "starts"}):
            raise self._fault("when", f"has {min(extra)!r}; it can have field, equals and starts")
        self._field("when", when.field, Check.IN_SET if when.equals or when.starts else Check.NOT_NULL)
        return when

    def _field(self, key: str, name: str, check: Check) -> str:
        if check in _OF_PRODUCTS:
            if name != "product":
                raise self._fault(key, f"is {name!r}; {check.value} is about a whole 'product'")
            return name
        if not is_field(name):
            raise self._fault(key, f"is {name!r}, which products do not have; {_advice(name, known_fields())}")
        kind = kind_of(name, check)
        wanted = Kind.NUMBER if check in _OF_NUMBERS else Kind.TEXT if check in _OF_TEXT else kind
        if key == "when" and check is Check.IN_SET:
            wanted = Kind.TEXT
        if kind is not wanted:
            says = f"is {name!r}, a {_KIND_NAMES[kind]}; {check.value} takes a {_KIND_NAMES[wanted]}"
            raise self._fault(key, says)
        return name

    def _one_of(self, key: str, right: Sequence[str]) -> str:
        value = self._text(key)
        if value not in right:
            raise self._fault(key, f"is {value!r}; {_advice(value, right)}")
        return value

    def _text(self, key: str) -> str:
        value = self._table.get(key)
        if not isinstance(value, str) or not value.strip():
            said = "is missing" if key not in self._table else f"is {value!r}"
            raise self._fault(key, f"{said}; expected a text")
        return value

    def _fault(self, key: str, says: str) -> SettingError:
        return SettingError(f"{self._place}: {key} {says}")


_KIND_NAMES = {Kind.TEXT: "text", Kind.NUMBER: "number", Kind.TIME: "time"}


def _fits(value: object, kind: Kind) -> bool:
    if kind is Kind.TEXT:
        return isinstance(value, str)
    return kind is Kind.NUMBER and isinstance(value, int | float) and not isinstance(value, bool)


def _advice(name: str, right: Sequence[str]) -> str:
    close = close_names(name, right)
    return f"did you mean {' or '.join(close)}?" if close else f"expected one of {', '.join(right)}"
