"""Rules as JSON and TOML say them, and back. An unknown field is refused, with the one that was meant."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from retrieval.close_names import close_names, meant
from retrieval.errors import RuleError
from service.merchandising.rule import KINDS, Action, Rule, When

MOST_FILE_BYTES = 64 << 20
Made = TypeVar("Made")
_KIND_OF = {action: kind for kind, action in KINDS.items()}


class _Head(msgspec.Struct, frozen=True):
    """What a rule says of itself beside when it holds and what it does."""

    id: str
    name: str = ""
    priority: int = 0
    enabled: bool = True


def rule_document(rule: Rule) -> dict[str, object]:
    """A rule as plain values that JSON has, what is as by default left out."""
    made = {"id": rule.id} | _given(rule)
    if "when" in made:
        made["when"] = msgspec.to_builtins(_given(rule.when))
    made["actions"] = [
        {"kind": _KIND_OF[type(action)]} | {name: msgspec.to_builtins(value) for name, value in _given(action).items()}
        for action in rule.actions
    ]
    return made


def rule_of(said: object, place: str = "the rule") -> Rule:
    """The rule that plain values say; raises RuleError, which names the field. What they may be is checked by
    `service.merchandising.checking.sound`."""
    fields = _object(said, place)
    name = fields.get("id")
    if isinstance(name, str) and name:
        place = f"rule {name[:100]!r}"
    _check_names(fields, Rule, place)
    when = _object(fields.get("when", {}), f"{place}: when")
    _check_names(when, When, f"{place}: when")
    actions = fields.get("actions")
    if not isinstance(actions, list | tuple):
        raise RuleError(f"{place}: actions: is missing or no list; it says what the rule does", place, "actions")
    made = [_action(each, f"{place}: actions[{number}]") for number, each in enumerate(actions)]
    head = _converted(fields, _Head, place)
    moments = _converted(when, When, f"{place}: when")
    return Rule(head.id, tuple(made), moments, head.name, head.priority, head.enabled)


def rules_of(said: object, place: str) -> list[Rule]:
    """The rules of a document: a list of them, an object whose `rules` is one, or one rule."""
    if isinstance(said, Mapping) and "rules" in said:
        strange = sorted(set(said) - {"rules"})
        if strange:
            raise RuleError(f"{place}: {strange[0]!r} is no field beside rules", field=strange[0])
        said = said["rules"]
    if not isinstance(said, list):
        return [rule_of(said, place)]
    return [rule_of(each, f"{place}: rules[{number}]") for number, each in enumerate(said)]


def read_rules(path: Path) -> list[Rule]:
    """The rules of a JSON or TOML file; raises RuleError for one that cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_FILE_BYTES + 1)
        if len(content) > MOST_FILE_BYTES:
            raise RuleError(f"{path} has more than {MOST_FILE_BYTES:,} bytes; put its rules in several files")
        said = tomllib.loads(content.decode()) if path.suffix == ".toml" else msgspec.json.decode(content)
    except OSError as error:
        raise RuleError(f"{path} cannot be read ({error.strerror}); name a JSON or TOML file of rules") from error
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise RuleError(f"{path} is no {kind}: {error}") from error
    return rules_of(said, str(path))


def encoded(rule: Rule) -> str:
    """A rule as one line of JSON."""
    return msgspec.json.encode(rule_document(rule)).decode()


def decoded(line: str) -> Rule:
    """The rule of which `encoded` made this line; raises RuleError or msgspec.DecodeError for another one."""
    return rule_of(msgspec.json.decode(line))


def _given(value: Rule | When | Action) -> dict[str, object]:
    """The fields that are not as by default; those without a default are always given."""
    fields = {each.name: (getattr(value, each.name), each.default) for each in dataclasses.fields(value)}
    return {name: given for name, (given, default) in fields.items() if given != default}


def _action(said: object, place: str) -> Action:
    fields = _object(said, place)
    kind = fields.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        close = close_names(kind, KINDS) if isinstance(kind, str) else ()
        advice = f"did you mean {' or '.join(close)}?" if close else f"it can be {', '.join(KINDS)}"
        what = "is missing" if kind is None else f"is {str(kind)[:40]!r}"
        raise RuleError(f"{place}.kind: {what}; {advice}", field="kind")
    wanted = KINDS[kind]
    _check_names(fields, wanted, place, besides=("kind",))
    action: Action = _converted({name: value for name, value in fields.items() if name != "kind"}, wanted, place)
    return action


def _object(said: object, place: str) -> Mapping[str, object]:
    if not isinstance(said, Mapping) or not all(isinstance(name, str) for name in said):
        raise RuleError(f"{place}: is {type(said).__name__}, it must be an object with named fields")
    return said


def _check_names(said: Mapping[str, object], wanted: type, place: str, besides: Collection[str] = ()) -> None:
    known = (*besides, *(each.name for each in dataclasses.fields(wanted)))
    for name in said:
        if name not in known:
            advice = meant(name, known, f"the fields are {', '.join(known)}")
            raise RuleError(f"{place}: no field {name[:100]!r}; {advice}", field=name)


def _converted(said: Mapping[str, object], wanted: type[Made], place: str) -> Made:
    try:
        return msgspec.convert(said, wanted)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        field = path.removesuffix("`").lstrip(".")
        told = f"{place}: {field}: {reason}" if field else f"{place}: {reason}"
        raise RuleError(told, field=field) from None
