"""Conversion of rules and synonyms between the protocol and the store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import Meta

from shelfwise.retrieval.errors import FilterError, QueryError, RuleError, SynonymError
from shelfwise.retrieval.filters.ast import (
    And,
    Comparison,
    Exists,
    Filter,
    In,
    Not,
    Or,
    Within,
    format_filter,
    leaves,
    value_text,
)
from shelfwise.retrieval.filters.parser import parse_filter
from shelfwise.retrieval.records import Product
from shelfwise.service.curation.document_store import check_text
from shelfwise.service.curation.rules import (
    LONGEST_ID,
    Action,
    Boost,
    Bury,
    Data,
    Hide,
    Match,
    Pin,
    Redirect,
    Restrict,
    Rule,
    When,
    validate_rule,
)
from shelfwise.service.curation.synonyms import Synonym, SynonymKind, validate_synonym
from shelfwise.service.instantsearch.filters import NOTHING, FilterTranslator
from shelfwise.service.instantsearch.request import JsonObject, Refinements, flag, integer, text

Document = Annotated[dict[str, Any], Meta(title="Rule or synonym", extra_json_schema={"required": ["objectID"]})]
_RULE_FIELDS = frozenset({"objectID", "conditions", "condition", "consequence", "description", "enabled", "validity"})
_OWN_FIELDS = frozenset({"priority"})
"""Fields that the protocol does not have."""
_WITHOUT_EFFECT = frozenset({"tags", "scope"})
_READ_ONLY = frozenset({"_metadata", "_highlightResult"})
_ANCHORING = {"is": Match.EXACT, "contains": Match.CONTAINS}
_TO_ANCHORING = {match: name for name, match in _ANCHORING.items()}
_CONSEQUENCES = frozenset({"params", "promote", "hide", "filterPromotes", "redirect", "userData"})
_CONDITIONS = frozenset({"pattern", "anchoring", "filters", "alternatives", "context"})
_PARAMS = frozenset({"filters", "optionalFilters", "renderingContent"})
_SCORED = re.compile(r"(?P<filter>.+?)(?:<score=(?P<score>\d+(?:\.\d+)?)>)?", re.DOTALL | re.ASCII)
_BARE_NAME = re.compile(r"[^\s():<>=!\"']+")
_TYPES = {"synonym": SynonymKind.TWO_WAY, "onewaysynonym": SynonymKind.ONE_WAY}
_HIGHEST_PRIORITY = 1_000_000
_FIELDS = frozenset(each.name for each in fields(Product)) | {"categories", "hierarchicalCategories", "objectID"}


class RuleTranslator:
    """Converts rules of the protocol to rules of the store, for one catalog."""

    def __init__(self, filters: FilterTranslator) -> None:
        self._filters = filters
        self.notes: list[str] = []
        """Parts of rules that have no effect."""

    def rule(self, document: JsonObject) -> Rule:
        """The rule of a document; raises RuleError, which names the rule and the field, for unsupported parts."""
        rule_id = text(document, "objectID")
        check_text("objectID", rule_id, LONGEST_ID, RuleError, must=True)
        try:
            return validate_rule(self._rule(rule_id, document))
        except (QueryError, FilterError) as error:
            raise RuleError(f"rule {rule_id!r}: {error}", rule_id) from error

    def _rule(self, rule_id: str, document: JsonObject) -> Rule:
        _check_names(document, _RULE_FIELDS | _OWN_FIELDS | _WITHOUT_EFFECT | _READ_ONLY, "")
        if ignored := sorted(name for name in _WITHOUT_EFFECT if document.get(name)):
            self.notes.append(f"rule {rule_id!r}: not applied: {', '.join(ignored)}")
        actions = tuple(self._actions(rule_id, _object(document, "consequence")))
        if not actions:
            raise QueryError(f"consequence has no effect; it can have {', '.join(sorted(_CONSEQUENCES))}")
        return Rule(
            rule_id,
            actions,
            self._when(rule_id, document),
            text(document, "description"),
            integer(document, "priority", 0, -_HIGHEST_PRIORITY, _HIGHEST_PRIORITY),
            flag(document, "enabled", default=True),
        )

    def _when(self, rule_id: str, document: JsonObject) -> When:
        single = _object(document, "condition")
        conditions = _list(document, "conditions") or ([single] if single else [])
        ranges = _list(document, "validity")
        for name, given in (("conditions", conditions), ("validity", ranges)):
            if len(given) > 1:
                raise QueryError(f"{name} has {len(given)} entries, a rule can have one; create a rule for each")
        condition = conditions[0] if conditions else {}
        _check_names(condition, _CONDITIONS, "conditions[0].")
        if flag(condition, "alternatives", default=False):
            self.notes.append(f"rule {rule_id!r}: alternatives: contains always finds other forms, and no synonyms")
        pattern, anchoring = text(condition, "pattern"), text(condition, "anchoring")
        context = text(condition, "context")
        if pattern and anchoring not in _ANCHORING:
            raise QueryError(f"conditions[0].anchoring is {anchoring[:40]!r}, it can be {', '.join(_ANCHORING)}")
        if "{facet:" in pattern:
            raise QueryError("conditions[0].pattern must be words; facets in it are not supported")
        time_range = ranges[0] if ranges else {}
        return When(
            pattern,
            _ANCHORING[anchoring] if pattern else Match.ANY,
            self._expression("conditions[0].filters", text(condition, "filters")),
            _moment(time_range, "from"),
            _moment(time_range, "until"),
            (context,) if context else (),
        )

    def _actions(self, rule_id: str, consequence: JsonObject) -> Iterable[Action]:
        _check_names(consequence, _CONSEQUENCES, "consequence.")
        for number, promoted in enumerate(_list(consequence, "promote")):
            ids = _list(promoted, "objectIDs") or [promoted.get("objectID")]
            position = integer(promoted, "position", 0, 0, 10**6)
            yield Pin(tuple(_id(each, f"consequence.promote[{number}]") for each in ids), position + 1)
        if consequence.get("promote") and not flag(consequence, "filterPromotes", default=True):
            self.notes.append(f"rule {rule_id!r}: filterPromotes: promoted products always have to pass the filters")
        if hidden := _list(consequence, "hide"):
            yield Hide(tuple(_id(each.get("objectID"), f"consequence.hide[{at}]") for at, each in enumerate(hidden)))
        parameters = _object(consequence, "params")
        _check_names(parameters, _PARAMS, "consequence.params.")
        if filters := text(parameters, "filters"):
            yield Restrict(self._expression("consequence.params.filters", filters))
        for entry in _list(parameters, "optionalFilters", of=str):
            yield self._lift(entry)
        rendering = _object(parameters, "renderingContent")
        _check_names(rendering, {"redirect"}, "consequence.params.renderingContent.")
        for redirect in (_object(consequence, "redirect"), _object(rendering, "redirect")):
            if redirect:
                yield Redirect(text(redirect, "url"))
        if data := _object(consequence, "userData"):
            yield Data(dict(data))

    def _lift(self, entry: str) -> Boost | Bury:
        """`brand:Bosch<score=2>` is a boost, `brand:-Bosch` a burial; expressions are allowed, too: `-(price < 10)`."""
        place = "consequence.params.optionalFilters"
        scored = _SCORED.fullmatch(entry.strip())
        if not scored:
            raise QueryError(f"{place} has an empty entry")
        strength, inner = float(scored["score"] or 1), scored["filter"]
        if inner.startswith(("(", "-(")):
            kind = Bury if inner.startswith("-") else Boost
            return kind(self._expression(place, inner.removeprefix("-")), strength)
        attribute, _, value = inner.partition(":")
        kind = Bury if value.startswith("-") else Boost
        refinements = Refinements(facets=((f"{attribute}:{value.removeprefix('-')}",),))
        return kind(self._translated(place, refinements), strength)

    def _expression(self, place: str, expression: str) -> str:
        return self._translated(place, Refinements(expression=expression)) if expression else ""

    def _translated(self, place: str, refinements: Refinements) -> str:
        tree = self._filters.tree(refinements)
        if tree is None:
            return ""
        if NOTHING in leaves(tree):
            raise QueryError(f"{place} names an attribute or a value that no product can have")
        return format_filter(tree)


def rule_document(rule: Rule) -> Document | None:
    """The protocol's document of a rule; None if the protocol cannot express it."""
    consequence: Document = {}
    parameters: Document = {}
    try:
        for action in rule.actions:
            match action:
                case Pin(products, position):
                    ids = {"objectID": products[0]} if len(products) == 1 else {"objectIDs": list(products)}
                    consequence.setdefault("promote", []).append({**ids, "position": position - 1})
                    consequence["filterPromotes"] = True
                case Hide(products, "") if "hide" not in consequence:
                    consequence["hide"] = [{"objectID": each} for each in products]
                case Restrict(filters) if "filters" not in parameters:
                    parameters["filters"] = _format_expression(filters)
                case Boost(filters, strength) | Bury(filters, strength):
                    sign, score = (
                        "-" if isinstance(action, Bury) else "",
                        "" if strength == 1 else f"<score={strength:g}>",
                    )
                    entry = f"{sign}({_format_expression(filters)}){score}"
                    parameters.setdefault("optionalFilters", []).append(entry)
                case Redirect(url) if "redirect" not in consequence:
                    consequence["redirect"] = {"url": url}
                case Data(values) if "userData" not in consequence:
                    consequence["userData"] = values
                case _:
                    return None
        condition = _condition(rule.when)
    except ValueError:
        return None
    document: Document = {"objectID": rule.id, "conditions": [condition] if condition else [], "enabled": rule.enabled}
    document["consequence"] = consequence | ({"params": parameters} if parameters else {})
    if rule.name:
        document["description"] = rule.name
    times = {"from": rule.when.starts, "until": rule.when.ends}
    if validity := {name: int(moment.timestamp()) for name, moment in times.items() if moment}:
        document["validity"] = [validity]
    return document | ({"priority": rule.priority} if rule.priority else {})


def _condition(when: When) -> Document:
    condition: Document = {}
    if when.match is not Match.ANY:
        condition |= {"pattern": when.query, "anchoring": _TO_ANCHORING[when.match]}
    if len(when.contexts) > 1:
        raise ValueError("the protocol has one context in a condition")
    if when.contexts:
        condition["context"] = when.contexts[0]
    return condition | ({"filters": _format_expression(when.filters)} if when.filters else {})


def _format_expression(filters: str) -> str:
    """A filter of the store in the protocol's syntax; raises ValueError if that is not possible."""
    tree = parse_filter(filters)
    return "" if tree is None else _format_tree(tree)


def _format_tree(tree: Filter) -> str:
    match tree:
        case Comparison(name, "=" | "!=" as operator, value) if isinstance(value, str | bool):
            equal = f"{_format_name(name)}:{_quoted(value_text(value))}"
            return f"NOT ({equal})" if operator == "!=" else equal
        case Comparison(name, operator, value):
            number = datetime.fromisoformat(value).timestamp() if isinstance(value, str) else value
            return f"{_format_name(name)} {operator} {value_text(number)}"
        case In(name, values):
            return _format_tree(Or(tuple(Comparison(name, "=", each) for each in values)))
        case Not(operand):
            return f"NOT ({_format_tree(operand)})"
        case And(operands):
            return " AND ".join(f"({_format_tree(each)})" for each in operands)
        case Or(operands):
            return " OR ".join(f"({_format_tree(each)})" for each in operands)
        case Exists() | Within():
            raise ValueError("the protocol has no filter for that")


def _format_name(name: str) -> str:
    """An attribute without its prefix, unless a field has the name."""
    bare = name.removeprefix("attributes.")
    name = name if bare in _FIELDS else bare
    return name if _BARE_NAME.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def parse_synonym(document: JsonObject) -> Synonym:
    """The synonym of a document; raises SynonymError, which names the synonym and the field."""
    synonym_id = text(document, "objectID")
    place = f"synonym {synonym_id!r}"
    given = text(document, "type")
    kind = _TYPES.get(given.lower())
    if kind is None:
        raise SynonymError(f"{place}: type is {given[:40]!r}, it can be synonym or oneWaySynonym", synonym_id, "type")
    phrases = document.get("synonyms")
    if not isinstance(phrases, list) or not all(isinstance(each, str) for each in phrases):
        raise SynonymError(f'{place}: synonyms must be a list such as ["sofa", "couch"]', synonym_id, "synonyms")
    enabled = flag(document, "enabled", default=True)
    if kind is SynonymKind.TWO_WAY:
        return validate_synonym(Synonym(synonym_id, kind, tuple(phrases), enabled=enabled))
    inputs = tuple(each.strip() for each in text(document, "input").split(","))
    return validate_synonym(Synonym(synonym_id, kind, inputs, tuple(phrases), enabled))


def synonym_document(synonym: Synonym) -> Document:
    """The protocol's document of a synonym. Several inputs are one text with commas."""
    document: Document = {"objectID": synonym.id}
    if synonym.kind is SynonymKind.ONE_WAY:
        document |= {"type": "onewaysynonym", "input": ", ".join(synonym.phrases), "synonyms": list(synonym.to)}
    else:
        document |= {"type": "synonym", "synonyms": list(synonym.phrases)}
    return document if synonym.enabled else document | {"enabled": False}


def _check_names(document: JsonObject, known: Iterable[str], place: str) -> None:
    if strange := sorted(set(document) - set(known)):
        raise QueryError(f"{place}{strange[0]} is not supported; it can have {', '.join(sorted(known))}")


def _object(document: JsonObject, name: str) -> JsonObject:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise QueryError(f"{name} must be an object")
    return value


def _list(document: JsonObject, name: str, of: type = dict) -> list[Any]:
    value = document.get(name)
    if value is None:
        return []
    if name == "objectIDs":
        of = str
    if not isinstance(value, list) or not all(isinstance(each, of) for each in value):
        raise QueryError(f"{name} must be a list of {'objects' if of is dict else 'texts'}")
    return value


def _id(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise QueryError(f"{place}.objectID must be a text")
    return value


def _moment(document: Mapping[str, Any], name: str) -> datetime | None:
    value = document.get(name)
    if value is None:
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise QueryError(f"validity[0].{name} must be a time in seconds since 1970") from None
