"""Routes of the protocol that change objects, and those of indexes and tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from fastapi import Path, Query
from msgspec import UNSET, Struct, UnsetType, field, structs

from shelfwise.retrieval.errors import QueryError, UnknownTaskError
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.updates.changes import Change, Delete, Upsert
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.live import CurrentProducts
from shelfwise.service.engine.versions import list_versions
from shelfwise.service.http.auth import Permit, Scope, combine_filters
from shelfwise.service.http.context import Indexes, RequestIndexes, ServiceContext, check_scope
from shelfwise.service.http.errors import RequestError
from shelfwise.service.http.health import is_shown_by_all
from shelfwise.service.http.indexes import UnknownIndexError
from shelfwise.service.http.limits import search_cost
from shelfwise.service.http.tasks import RunningTask, TaskState
from shelfwise.service.instantsearch.access import (
    BODY,
    Contextual,
    Index,
    MayList,
    MayWrite,
    MayWriteAny,
    ObjectId,
    Payload,
    ProtocolRouter,
    Stored,
    Writable,
    check_index,
    check_writable,
    find_index,
)
from shelfwise.service.instantsearch.filters import AttributeCatalog, FilterTranslator
from shelfwise.service.instantsearch.index_store import ProtocolStore, copy_index
from shelfwise.service.instantsearch.objects import Write, WritePlan, object_id, parse_writes
from shelfwise.service.instantsearch.request import (
    FILTERING,
    MOST_NAME,
    ViewSettings,
    merge_params,
    names,
    parse_refinements,
    text,
)

MOVE = "move"
"""Kind of the task that replaces all products with those of a temporary index."""
_SCOPES = ("settings", "synonyms", "rules")
_SHOWN_SECONDS = 1.0
_PENDING = (TaskState.WAITING, TaskState.RUNNING)

TaskId = Annotated[int, Path(ge=0, lt=2**53)]

router = ProtocolRouter(writes=True)


class WriteResult(Struct, frozen=True, omit_defaults=True):
    """A durable change."""

    task_id: int | Mapping[str, int] = field(name="taskID")
    """Id of the task; for a batch over several indexes, ids by index name."""
    object_id: str = field(name="objectID", default="")
    object_ids: tuple[str, ...] | UnsetType = field(name="objectIDs", default=UNSET)
    created: str = field(name="createdAt", default="")
    updated: str = field(name="updatedAt", default="")
    deleted: str = field(name="deletedAt", default="")
    id: str = ""
    """Id of a synonym."""
    message: str = ""
    """Parts that were not applied."""


class TaskResult(Struct, frozen=True):
    """Progress of a task: `published` as soon as searches of all workers show it."""

    status: str
    pending: bool = field(name="pendingTask", default=False)


class IndexDescription(Struct, frozen=True, rename="camel"):
    """One index."""

    name: str
    created_at: str
    updated_at: str
    entries: int
    data_size: int
    """Size of the serving version in bytes."""
    file_size: int
    last_build_time_s: int = field(name="lastBuildTimeS", default=0)
    number_of_pending_tasks: int = 0
    pending_task: bool = False
    replicas: tuple[str, ...] = ()
    primary: str | UnsetType = UNSET


class IndexList(Struct, frozen=True, rename="camel"):
    """All indexes."""

    items: list[IndexDescription]
    nb_pages: int = 1


def now_text() -> str:
    """The current time in the protocol's format."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def published_task(context: ServiceContext, sequence: int = 0) -> int:
    """The id of a durable change: twice the number of the live change, or of the last one. Ids of queued tasks are
    odd."""
    # Clients interpret 0 as a missing id.
    return 2 * max(sequence or context.engine.live_sequence, 1)


@router.post("/indexes/*/batch", summary="Writes to several indexes", openapi_extra=BODY)
def multiple_batch(indexes: MayWriteAny, payload: Payload) -> WriteResult:
    """The writes of each index are applied together or not at all."""
    writes = parse_writes(payload)
    groups: dict[str, list[Write]] = {}
    for number, write in enumerate(writes):
        if not write.index:
            raise QueryError(f"requests[{number}].indexName is missing")
        groups.setdefault(write.index, []).append(write)
    contexts = indexes.by_name_or_new(groups)
    for index, context in contexts.items():
        check_writable(context, index)
    tasks = {index: _apply(contexts[index], indexes.permit, index, each) for index, each in groups.items()}
    return WriteResult(tasks, object_ids=tuple(each.id for each in writes if each.id))


@router.post("/indexes/{index}/batch", summary="Several writes", openapi_extra=BODY)
def batch(context: Writable, permit: MayWrite, payload: Payload, index: Index) -> WriteResult:
    """Applies all writes in order, or none."""
    writes = parse_writes(payload)
    task = _apply(context, permit, index, writes)
    return WriteResult(task, object_ids=tuple(each.id for each in writes if each.id))


@router.post("/indexes/{index}", summary="Add an object", openapi_extra=BODY)
def save(context: Writable, permit: MayWrite, payload: Payload, index: Index) -> WriteResult:
    """Adds a product, or replaces the one with its id; without an id it gets a new one."""
    write = Write("addObject", object_id(payload, "the body", makes_id=True), payload)
    task = _apply(context, permit, index, [write])
    return WriteResult(task, object_id=write.id, created=now_text())


@router.post("/indexes/{index}/deleteByQuery", summary="Delete by filters", openapi_extra=BODY)
def delete_by(context: Contextual, permit: MayWrite, stored: Stored, payload: Payload, index: Index) -> WriteResult:
    """Deletes all products that pass the filters, of which at least one is required."""
    payload = merge_params(payload)
    if strange := sorted(set(payload) - FILTERING):
        raise QueryError(f"{strange[0]} cannot select objects to delete; use {', '.join(sorted(FILTERING))}")
    # Only now are the attributes of objects that were just saved known.
    context.engine.wait_for(context.engine.last_sequence, _SHOWN_SECONDS)
    expression = FilterTranslator(AttributeCatalog(context.visible(permit).fields)).expression(
        parse_refinements(payload)
    )
    if not expression:
        raise QueryError(f"deleteBy needs one of {', '.join(sorted(FILTERING))}; clearObjects deletes all objects")
    if stored.is_temporary(index):
        raise QueryError("a temporary index cannot be filtered; delete its objects by their objectID")
    check_writable(context, index)
    where = combine_filters((*permit.filters, expression))
    applied = context.append(permit, lambda products: [Delete(each) for each in products.ids(where)])
    stored.adopt_name(index)
    return WriteResult(published_task(context, applied.sequence), updated=now_text())


@router.post("/indexes/{index}/clear", summary="Delete all objects")
def clear(context: Contextual, permit: MayWrite, index: Index) -> WriteResult:
    """Rules, synonyms and settings are kept."""
    return WriteResult(_apply(context, permit, index, [Write("clear")]), updated=now_text())


@router.post("/indexes/{index}/operation", summary="Copy or move an index", openapi_extra=BODY)
def operation(
    indexes: Indexes, context: Writable, permit: MayWrite, stored: Stored, payload: Payload, index: Index
) -> WriteResult:
    """Without a `scope`, a directory of indexes gets a copy, or the index another name, in place of any index with that
    name. Copying the settings to a new name creates a temporary index; moving that back replaces all products."""
    kind, destination = text(payload, "operation"), text(payload, "destination", most=MOST_NAME)
    if kind not in ("copy", "move") or not destination:
        raise QueryError("operation must be copy or move, and destination the name of an index")
    task, scope, registry = published_task(context), names(payload, "scope"), indexes.registry
    for name in (index, destination):
        _check_owner(stored, permit, name)
    if stored.is_temporary(index) and kind == "move":
        _check_same(indexes, context, destination)
        check_writable(context, destination)
        arguments = {"index": index, "filters": combine_filters(permit.filters)}
        task = 2 * context.tasks.add(MOVE, arguments).number + 1
        stored.adopt_name(destination)
    elif kind == "copy" and scope and destination not in registry.names:
        _begin_temporary(context, permit, index, destination, scope)
    elif kind == "move" and registry.root is None:
        check_scope(permit, Scope.ADMIN)
        check_index(context, index)
        stored.change_settings(lambda known: known.renamed(destination))
    elif kind == "copy" and (scope or registry.root is None):
        _check_scope(scope)
        target = indexes.admitted(permit, destination, Scope.ADMIN)
        _copy_documents(context, target, scope, permit.id)
    else:
        _check_whole(context, permit, index)
        if views := stored.settings.replicas:
            message = f"{index[:100]!r} has the replicas {', '.join(views)}: remove them from replicas first"
            raise RequestError(409, message)
        if not permit.sees(destination):
            raise RequestError(403, f"this key is not for the index {destination[:100]!r}", code="other_index")
        if kind == "copy":

            def copied(name: str) -> ServiceContext:
                registry.create(name, partial(copy_index, context.engine.root))
                return indexes.get(name)

            indexes.choose(destination, copied)
        elif destination in (registry.aliases.all() if registry.aliases else ()):
            indexes.set_alias(permit, destination, context.name)
        elif destination != context.name:
            registry.move(context.name, destination)
    return WriteResult(task, updated=now_text())


def _check_whole(context: ServiceContext, permit: Permit, index: str) -> None:
    """Raises RequestError unless a key may delete and copy an index as a whole, under its own name."""
    if permit.filters:
        raise RequestError(403, "this concerns all products of an index: it needs a key without a filter")
    if index != context.name:
        raise RequestError(400, f"{index[:100]!r} is another name of the index {context.name!r}: use that one")


def _check_scope(scope: tuple[str, ...]) -> None:
    if not scope or not set(scope) <= set(_SCOPES):
        message = f"a copy with objects needs a directory of indexes; scope can be some of {', '.join(_SCOPES)}"
        raise RequestError(400, message, field="scope")


def _copy_documents(source: ServiceContext, target: ServiceContext, scope: tuple[str, ...], who: str) -> None:
    """Replaces the settings, rules or synonyms of an index by those of another."""
    if "settings" in scope:
        target.engine.relevance.put([source.engine.relevance.get()], who=who)
        settings = source.companion(ProtocolStore).settings
        own = {name: getattr(settings, name) for name in ViewSettings.__struct_fields__}
        target.companion(ProtocolStore).change_settings(lambda known: structs.replace(known, **own))
    for name in {*scope} & {"rules", "synonyms"}:
        documents, editor = getattr(source.engine, name).list(), getattr(target.engine, name)
        gone = {each.id for each in editor.list()} - {each.id for each in documents}
        editor.put(documents, gone=sorted(gone), who=who)


def _check_same(indexes: RequestIndexes, context: ServiceContext, destination: str) -> None:
    """Raises RequestError (400) if a temporary index would be moved over an index other than its own."""
    with suppress(UnknownIndexError):
        if find_index(indexes, destination).name == context.name:
            return
    message = f"a temporary index of {context.name!r} can only be moved over that index, not {destination[:100]!r}"
    raise RequestError(400, message, field="destination")


def _check_owner(stored: ProtocolStore, permit: Permit, name: str) -> None:
    """Raises RequestError (403) for a temporary index of keys with another filter, which all of its products pass."""
    if stored.filters_of(name) not in (None, combine_filters(permit.filters)):
        raise RequestError(403, f"{name[:100]!r} belongs to a key with another filter; choose another name")


def _begin_temporary(
    context: ServiceContext, permit: Permit, index: str, destination: str, scope: tuple[str, ...]
) -> None:
    stored = context.companion(ProtocolStore)
    check_writable(context, index)
    _check_scope(scope)
    if destination in (index, context.name, context.protocol_name()):
        raise RequestError(400, f"destination {destination[:100]!r} is the index itself", field="destination")
    stored.adopt_name(index)
    stored.create_temporary(destination, combine_filters(permit.filters))


@router.get("/indexes/{index}/task/{task_id}", summary="Progress of a task")
def index_task(context: Contextual, _permit: MayWrite, index: Index, task_id: TaskId) -> TaskResult:  # noqa: ARG001
    """Changes are published once all worker processes show them, and within a second in other services."""
    return _task_result(context, task_id)


@router.get("/task/{task_id}", summary="Progress of a task of the application")
def application_task(context: Contextual, _permit: MayWrite, task_id: TaskId) -> TaskResult:
    """Like the task of an index, without the index name."""
    return _task_result(context, task_id)


def _task_result(context: ServiceContext, task_id: int) -> TaskResult:
    sequence, is_queued = divmod(task_id, 2)
    if is_queued:
        task = context.tasks.queue.numbered(sequence)
        if task.kind != MOVE:
            raise UnknownTaskError(f"there is no task {task_id}")
        if task.state is TaskState.FAILED:
            raise RequestError(409, f"the task failed: {task.error}")
        if task.state in _PENDING:
            return TaskResult("notPublished", pending=True)
        sequence = task.result["sequence"]
    if sequence == 1 and not context.engine.last_sequence:
        return TaskResult("published")
    if sequence <= context.engine.live_sequence and is_shown_by_all(context.shared.group, context.name, sequence):
        return TaskResult("published")
    if sequence > context.engine.last_sequence:
        raise UnknownTaskError(f"there is no task {task_id}")
    return TaskResult("notPublished", pending=True)


@router.get("/indexes", summary="The indexes")
def list_indexes(indexes: Indexes, permit: MayList, page: Annotated[int, Query(ge=0)] = 0) -> IndexList:
    """The indexes that the key may use, including temporary ones. The only index of a service has the name that the
    first write gave it."""
    found = [] if page else [each for context in indexes.visible(permit) for each in _descriptions(context, permit)]
    return IndexList(found)


def _descriptions(context: ServiceContext, permit: Permit) -> Iterator[IndexDescription]:
    """An index and its temporary indexes."""
    engine, stored = context.engine, context.companion(ProtocolStore)
    version = next(each for each in list_versions(Store(engine.root)) if each.serves)
    changed = engine.live_changed
    updated = datetime.fromtimestamp(changed, UTC).isoformat() if changed else version.created
    pending = sum(task.kind == MOVE and task.state in _PENDING for task in context.tasks.queue.list())
    shown = engine.ids(filters=combine_filters(permit.filters)).total
    name, size, replicas = context.protocol_name() or context.name, version.bytes, stored.settings.replicas
    index = IndexDescription(
        name, version.created, updated, shown, size, size, 0, pending, pending_task=bool(pending), replicas=replicas
    )
    yield index
    for each in filter(permit.sees, stored.settings.views):
        yield structs.replace(index, name=each, data_size=0, file_size=0, replicas=(), primary=name)
    for each, entries in ({} if permit.filters else stored.temporary()).items():
        yield IndexDescription(each, updated, updated, entries, 0, 0)


@router.delete("/indexes/{index}", summary="Delete an index")
def delete_index(indexes: Indexes, context: Contextual, permit: MayWrite, stored: Stored, index: Index) -> WriteResult:
    """Deletes an index of a directory with its settings and events, or a temporary index, if it exists. Its replicas
    become indexes of their own."""
    _check_owner(stored, permit, index)
    task = published_task(context)
    if primary := stored.settings.of(index).primary:
        raise RequestError(403, f"{index[:100]!r} is a replica: remove it from the replicas of {primary!r} first")
    if stored.is_temporary(index):
        stored.delete_temporary(index)
    elif indexes.registry.root is not None:
        _check_whole(context, permit, index)
        for replica in stored.settings.views:
            if not permit.sees(replica):
                raise RequestError(403, f"this key is not for the replica {replica[:100]!r}", code="other_index")
            if replica not in indexes.registry.names:
                indexes.registry.create(replica, partial(copy_index, context.engine.root, replica=replica))
        indexes.registry.delete(context.name)
    elif index in (context.called, context.name, context.protocol_name()):
        raise RequestError(400, "the only index of a service is deleted with its directory; clearObjects empties it")
    return WriteResult(task, deleted=now_text())


@router.post("/indexes/{index}/{object_id:path}/partial", summary="Change attributes", openapi_extra=BODY)
def update(
    context: Writable,
    permit: MayWrite,
    payload: Payload,
    index: Index,
    object_id: ObjectId,
    create: Annotated[bool, Query(alias="createIfNotExists")] = True,
) -> WriteResult:
    """Omitted attributes are unchanged. A value may be a built-in operation: `{"_operation": "Increment"}`."""
    action = "partialUpdateObject" if create else "partialUpdateObjectNoCreate"
    task = _apply(context, permit, index, [Write(action, object_id, payload)])
    return WriteResult(task, object_id=object_id, updated=now_text())


def _apply(context: ServiceContext, permit: Permit, index: str, writes: list[Write]) -> int:
    """Applies writes to one index, all or none; returns the id of their task. Raises RequestError or ChangeError."""
    stored = context.companion(ProtocolStore)
    _check_owner(stored, permit, index)
    context.charge(permit, search_cost(hits=len(writes)))
    if stored.is_temporary(index):
        stored.write_temporary(index, writes)
        return published_task(context)
    if any(write.action == "delete" for write in writes):
        raise RequestError(400, "an index is deleted with its directory; the action clear deletes its objects")
    check_writable(context, index)
    filters = combine_filters(permit.filters)
    applied = context.append(
        permit, lambda products: WritePlan(products.find, lambda: products.ids(filters)).add_all(writes)
    )
    stored.adopt_name(index)
    return published_task(context, applied.sequence)


@router.put("/indexes/{index}/{object_id:path}", summary="Add or replace an object", openapi_extra=BODY)
def put(context: Writable, permit: MayWrite, payload: Payload, index: Index, object_id: ObjectId) -> WriteResult:
    """The whole product; its id is the one in the path."""
    task = _apply(context, permit, index, [Write("updateObject", object_id, payload)])
    return WriteResult(task, object_id=object_id, updated=now_text())


@router.delete("/indexes/{index}/{object_id:path}", summary="Delete an object")
def delete(context: Contextual, permit: MayWrite, index: Index, object_id: ObjectId) -> WriteResult:
    """Deleting a product that does not exist is not an error."""
    task = _apply(context, permit, index, [Write("deleteObject", object_id)])
    return WriteResult(task, deleted=now_text())


def replace_products(
    engine: SearchEngine, stored: ProtocolStore, arguments: Mapping[str, Any], _task: RunningTask
) -> Mapping[str, int]:
    """Runs a task of the kind MOVE as one live change; returns its number. A repetition has no further effect."""
    index, filters = arguments["index"], arguments["filters"]
    products = stored.temporary_products(index)
    if products is None:  # already moved
        return {"sequence": engine.live_sequence, "products": 0}
    put = {each.id: each for each in products}

    def plan(current: CurrentProducts) -> list[Change]:
        gone = [Delete(each) for each in current.ids(filters) if each not in put]
        return [*gone, *map(Upsert, put.values())]

    applied = engine.append(plan, filters=filters)
    stored.delete_temporary(index)
    return {"sequence": applied.sequence, "products": applied.products}
