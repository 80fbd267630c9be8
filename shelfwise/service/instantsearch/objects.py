"""Writes of the protocol: records as products, and the actions of a batch as live changes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shelfwise.retrieval.errors import ChangeError, QueryError
from shelfwise.retrieval.filters.ast import value_text
from shelfwise.retrieval.filters.schema import CATEGORY_SEPARATOR
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.updates.changes import Change, Delete, Patch, Upsert, apply_change, validate_change
from shelfwise.retrieval.updates.validation import EXACT, apply_patch, validate_id
from shelfwise.service.engine.live import add_measures
from shelfwise.service.instantsearch.protocol_request import JsonObject, objects, text
from shelfwise.service.instantsearch.response import ADDRESSES, Record, product_record

MAX_WRITES = 1_000
"""Maximum number of actions of one batch, the default of the clients."""
_ACTIONS = ("addObject", "updateObject", "partialUpdateObject", "partialUpdateObjectNoCreate", "deleteObject", "clear")
"""The actions of a batch."""
_SAME = ("description", "brand", "price", "currency", "availability", "rating", "rating_count", "language")
_PATHS = ("hierarchicalCategories", "categories", "category")
_OF_RESPONSES = frozenset(
    {"_highlightResult", "_snippetResult", "_rankingInfo", "_distinctSeqID", "_groupSize", "_siblings", "_score"}
)
"""Fields that hits have in addition to their records."""
_VARIANT = {"objectID": "id", "options": "options", "price": "price", "availability": "availability", "image": "image"}
_DEEPEST = 5
"""Maximum depth of nested objects in an attribute."""
_OPERATIONS = ("Increment", "Decrement", "Add", "Remove", "AddUnique", "IncrementFrom", "IncrementSet")


@dataclass(frozen=True, slots=True)
class Write:
    """One action of a batch."""

    action: str
    id: str = ""
    """Id of the object; empty if the action applies to all objects."""
    record: JsonObject | None = None
    index: str = ""
    """The index name, in a batch over several indexes."""


def parse_writes(payload: JsonObject) -> list[Write]:
    """The actions of a batch; raises QueryError, which names the entry of `requests`."""
    entries = enumerate(objects(payload, "requests", MAX_WRITES))
    return [_parse_write(entry, f"requests[{number}]") for number, entry in entries]


def _parse_write(entry: JsonObject, path: str) -> Write:
    action = text(entry, "action")
    if action not in _ACTIONS:
        raise QueryError(f"{path}.action is {action[:40]!r}, it can be {', '.join(_ACTIONS)}")
    index = text(entry, "indexName")
    body = entry.get("body")
    if action == "clear":
        return Write(action, index=index)
    if not isinstance(body, dict):
        raise QueryError(f"{path}.body must be an object with the attributes of the record")
    product_id = object_id(body, f"{path}.body", makes_id=action == "addObject")
    return Write(action, product_id, body, index)


def object_id(record: JsonObject, path: str, *, makes_id: bool = False) -> str:
    """The id of a record, or a new one if it has none and `makes_id`. Raises QueryError or ChangeError."""
    identity = record.get("objectID")
    if identity is None and makes_id:
        return uuid.uuid4().hex
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    if not isinstance(identity, str):
        raise QueryError(f"{path}.objectID is missing; every record needs one, such as the SKU")
    return validate_id(identity)


class WritePlan:
    """Converts writes to live changes, each based on the products after the previous ones."""

    def __init__(self, find: Callable[[str], Product | None], ids: Callable[[], Iterable[str]]) -> None:
        """`find` returns a product before the plan, and `ids` returns all ids."""
        self._find = find
        self._ids = ids
        self.changes: list[Change] = []
        self.outcome: dict[str, Product | None] = {}
        """Changed products in their final state; None for deleted ones."""

    def add_all(self, writes: Iterable[Write]) -> Sequence[Change]:
        """The changes of writes in order; raises ChangeError for a record that is not a valid product."""
        for write in writes:
            self._add_write(write)
        return self.changes

    def _add_write(self, write: Write) -> None:
        record = write.record or {}
        match write.action:
            case "clear":
                presence = dict.fromkeys(self._ids(), True) | {
                    each: bool(value) for each, value in self.outcome.items()
                }
                for each in sorted(each for each, is_there in presence.items() if is_there):
                    self._add(Delete(each))
            case "deleteObject":
                self._add(Delete(write.id))
            case "addObject" | "updateObject":
                self._add(Upsert(record_product(write.id, record)))
            case _:
                product = self._product(write.id)
                if product is not None:
                    self._update(product, record)
                elif write.action == "partialUpdateObject":
                    self._create(write.id, record)

    def _update(self, product: Product, record: JsonObject) -> None:
        current = product_record(product) if any(map(_is_operation, record.values())) else {}
        values = _resolve_operations(product.id, record, current)
        if values is None:
            return
        patch = patch_values(product.id, values, product)
        if patch:
            self._add(Patch(product.id, add_measures(product, patch)))

    def _create(self, product_id: str, record: JsonObject) -> None:
        values = _resolve_operations(product_id, record, {})
        if values is not None:
            self._add(Upsert(record_product(product_id, values)))

    def _product(self, product_id: str) -> Product | None:
        return self.outcome[product_id] if product_id in self.outcome else self._find(product_id)

    def _add(self, change: Change) -> None:
        change = validate_change(change)
        self.changes.append(change)
        current = self._product(change.id) if isinstance(change, Patch) else None
        self.outcome[change.id] = apply_change(current, change)


def _fault(product_id: str, name: str, message: str) -> ChangeError:
    """The error for an attribute of an object."""
    return ChangeError(f"object {product_id!r}: {message}", product_id, name)


def record_product(product_id: str, record: JsonObject) -> Product:
    """The product of a whole record; raises ChangeError, which names the object and the attribute."""
    values = patch_values(product_id, record)
    if values.get("title") is None:
        raise _fault(product_id, "name", "name is missing; a product needs a name or a title")
    return apply_patch(Product(product_id, ""), values)


def patch_values(product_id: str, record: JsonObject, current: Product | None = None) -> dict[str, Any]:
    """The attributes of a record as values of a patch; an attribute replaces the whole value in `current`.

    The reverse of `shelfwise.service.instantsearch.response.product_record`. Raises ChangeError.
    """
    values: dict[str, Any] = {}
    for name, value in record.items():
        if name in ("objectID", "name", "title", "image", "images", *_PATHS, *_OF_RESPONSES):
            continue
        if name in _FIELDS:
            values[name] = _FIELDS[name](product_id, name, value)
        elif name == "_geoloc":
            values["places"] = value
        elif name != "url" or value not in (record.get(each) for each in ADDRESSES[1:]):
            values |= _attributes(product_id, name, value, current)
    names = {each: record[each] for each in ("name", "title") if each in record}
    if len(set(map(str, names.values()))) > 1:
        raise _fault(product_id, "name", "name and title are the same field but differ; send one of them")
    if names:
        values["title"] = next(iter(names.values()))
    if "images" in record or "image" in record:
        images = record.get("images") or record.get("image") or ()
        values["images"] = [images] if isinstance(images, str) else images
    if path := next((each for each in _PATHS if each in record), ""):
        values["category"] = _category(product_id, path, record[path])
    return values


def _category(product_id: str, name: str, value: object) -> list[str]:
    """The path from the widest category to the narrowest, from a text, a list, or levels by name."""
    if isinstance(value, dict):
        levels = sorted(key for key, level in value.items() if level)
        value = value[levels[-1]] if levels else []
        if isinstance(value, list) and value:  # a record in several categories
            value = value[0]
    if isinstance(value, str):
        value = value.split(CATEGORY_SEPARATOR)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        right = 'a list such as ["Tools", "Drills"], or levels such as {"lvl0": "Tools", "lvl1": "Tools > Drills"}'
        raise _fault(product_id, name, f"{name} must be {right}")
    last = value[-1] if value else ""
    # Some stores list every level together with those above it.
    return last.split(CATEGORY_SEPARATOR) if CATEGORY_SEPARATOR in last else value


def _moment(product_id: str, name: str, value: object) -> object:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return value
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError, ValueError):
        raise _fault(
            product_id, name, f"{name} is {str(value)[:40]}; it must be a time in seconds since 1970"
        ) from None


def _identifiers(product_id: str, name: str, value: object) -> object:
    if not isinstance(value, dict):
        raise _fault(product_id, name, 'identifiers must be an object such as {"ean": ["0095205603217"]}')
    return {kind: [each] if isinstance(each, str) else each for kind, each in value.items()}


def _variants(product_id: str, name: str, value: object) -> list[dict[str, object]]:
    fields = ", ".join((*_VARIANT, "identifiers"))
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise _fault(product_id, name, f"variants must be a list of objects with {fields}")
    variants: list[dict[str, object]] = []
    for variant in value:
        if strange := sorted(set(variant) - {*_VARIANT, "identifiers"}):
            raise _fault(product_id, name, f"a variant has no {strange[0]!r}; it can have {fields}")
        document = {ours: variant[theirs] for theirs, ours in _VARIANT.items() if theirs in variant}
        document["id"] = object_id(variant, f"object {product_id!r}: variants[{len(variants)}]")
        variants.append(document | {"identifiers": _identifiers(product_id, name, variant.get("identifiers", {}))})
    return variants


_FIELDS: Mapping[str, Callable[[str, str, object], object]] = {
    **dict.fromkeys(_SAME, lambda _id, _name, value: value),
    **dict.fromkeys(("created", "updated", "expires"), _moment),
    "identifiers": _identifiers,
    "variants": _variants,
}
"""The fields of products with the same names in records, and the functions that read them."""


def _attributes(product_id: str, name: str, value: object, current: Product | None) -> dict[str, object]:
    """An attribute; those of an object are prefixed with its name: `size.width`."""
    if name.startswith("_") and name != "_tags":
        raise _fault(product_id, name, f"{name}: names with a leading _ are reserved; rename the attribute")
    name = "tags" if name == "_tags" else name
    before = current.attributes if current else {}
    removals = {f"attributes.{each}": None for each in before if each == name or each.startswith(f"{name}.")}
    values = {f"attributes.{key}": each for key, each in _flattened(product_id, name, value, 1)}
    return {**removals, **values} or {f"attributes.{name}": None}


def _flattened(product_id: str, name: str, value: object, depth: int) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        if depth > _DEEPEST:
            raise _fault(product_id, name, f"{name}: objects may be nested {_DEEPEST} deep, not deeper")
        for key, each in value.items():
            yield from _flattened(product_id, f"{name}.{key}", each, depth + 1)
    elif isinstance(value, list):
        yield (
            name,
            [_item(product_id, name, number, each) for number, each in enumerate(value) if each not in ("", None)],
        )
    else:
        yield name, value


def _item(product_id: str, name: str, number: int, value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str | float | bool):
        return value_text(value)
    right = "an attribute must be a text, a number, a boolean, a list of these, or an object of these"
    kind = "an object" if isinstance(value, dict) else "a list"
    raise _fault(product_id, name, f"{name}[{number}] is {kind}; {right}")


def _is_operation(value: object) -> bool:
    return isinstance(value, dict) and "_operation" in value


def _resolve_operations(product_id: str, record: JsonObject, current: Record) -> JsonObject | None:
    """The record with the results of its built-in operations; None if one of them cancels the update."""
    values = dict(record)
    for name, value in record.items():
        if isinstance(value, dict) and _is_operation(value):
            outcome = _operate(product_id, name, value, current.get(name))
            if outcome is None:
                return None
            values[name] = outcome
    return values


def _operate(product_id: str, name: str, operation: JsonObject, current: object) -> object:
    """The result of one built-in operation; None if it cancels the update."""
    kind = operation["_operation"]
    operand = operation.get("value")
    if kind not in _OPERATIONS:
        raise _fault(product_id, name, f"{name}._operation is {str(kind)[:40]!r}, it can be {', '.join(_OPERATIONS)}")
    if kind in ("Add", "Remove", "AddUnique"):
        return _change_list(kind, current, _item(product_id, name, 0, operand))
    by, now = (_number(product_id, f"{name}: {kind}", each) for each in (operand, current))
    match kind:
        case "Increment":
            return now + by
        case "Decrement":
            return now - by
        case "IncrementFrom":
            return now + 1 if by == now else None
        case _:
            return by if by > now else None


def _number(product_id: str, path: str, value: object) -> float:
    """The operand of an operation; 0 if there is none."""
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > EXACT:
        raise _fault(product_id, path.partition(":")[0], f"{path} needs a number, not {str(value)[:40]!r}")
    return float(value)


def _change_list(kind: object, current: object, item: str) -> list[str]:
    values = [] if current is None else [str(each) for each in current] if isinstance(current, list) else [str(current)]
    if kind == "Remove":
        return [each for each in values if each != item]
    return values if kind == "AddUnique" and item in values else [*values, item]
