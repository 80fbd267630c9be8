"""Routes of the protocol that change objects and settings, and those of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from fastapi import Path, Query
from msgspec import UNSET, Struct, UnsetType, field

from shelfwise.retrieval.errors import QueryError, UnknownTaskError
from shelfwise.retrieval.updates.changes import Delete
from shelfwise.service.http.auth import Permit, combine_filters
from shelfwise.service.http.context import Indexes, ServiceContext
from shelfwise.service.http.health import is_shown_by_all
from shelfwise.service.http.limits import search_cost
from shelfwise.service.instantsearch.access import (
    BODY,
    Contextual,
    Index,
    MayAdminister,
    MayWrite,
    MayWriteAny,
    ObjectId,
    Payload,
    ProtocolRouter,
    Stored,
    Writable,
    check_index,
    check_writable,
    find_or_create,
)
from shelfwise.service.instantsearch.filters import AttributeCatalog, FilterTranslator
from shelfwise.service.instantsearch.objects import Write, WritePlan, object_id, parse_writes
from shelfwise.service.instantsearch.protocol_request import FILTERING, merge_params, parse_refinements
from shelfwise.service.instantsearch.protocol_settings import ProtocolStore, read_settings, write_settings

_SHOWN_SECONDS = 1.0

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
    message: str = ""
    """Parts that were not applied."""


class TaskResult(Struct, frozen=True):
    """Progress of a task: `published` as soon as searches of all workers show it."""

    status: str
    pending: bool = field(name="pendingTask", default=False)


def now_text() -> str:
    """The current time in the protocol's format."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def published_task(context: ServiceContext, sequence: int = 0) -> int:
    """The id of a durable change: the number of the live change, or of the last one."""
    # Clients interpret 0 as a missing id.
    return max(sequence or context.engine.live.sequence, 1)


@router.get("/indexes/{index}/settings", summary="The settings")
def settings(context: Contextual, _permit: MayAdminister, stored: Stored, index: Index) -> dict[str, Any]:
    """The current settings, by their names in the protocol."""
    check_index(context, index)
    return read_settings(context.engine, stored, index)


@router.put("/indexes/{index}/settings", summary="Change settings", openapi_extra=BODY)
def put_settings(
    context: Writable,
    permit: MayAdminister,
    stored: Stored,
    payload: Payload,
    index: Index,
    forwards: Annotated[bool, Query(alias="forwardToReplicas", description="Whether replicas get them, too.")] = False,
) -> WriteResult:
    """Omitted settings are unchanged. `message` names what was not applied."""
    views = stored.settings.views
    if index not in views:
        check_writable(context, index)
    notes = write_settings(context.engine, stored, payload, who=permit.id, index=index)
    if index not in views:
        of_replicas = {name: value for name, value in payload.items() if name != "replicas"}
        for each in views if forwards else ():
            write_settings(context.engine, stored, of_replicas, who=permit.id, index=each)
        stored.adopt_name(index)
    return WriteResult(published_task(context), updated=now_text(), message="; ".join(notes))


@router.post("/indexes/*/batch", summary="Writes to several indexes", openapi_extra=BODY)
def multiple_batch(indexes: Indexes, permit: MayWriteAny, payload: Payload) -> WriteResult:
    """The writes of each index are applied together or not at all."""
    writes = parse_writes(payload)
    groups: dict[str, list[Write]] = {}
    for number, write in enumerate(writes):
        if not write.index:
            raise QueryError(f"requests[{number}].indexName is missing")
        groups.setdefault(write.index, []).append(write)
    find = partial(find_or_create, indexes, permit)
    contexts = {index: indexes.admitted(permit, index, find) for index in groups}
    for index, context in contexts.items():
        check_writable(context, index)
    tasks = {index: _apply(contexts[index], permit, index, each) for index, each in groups.items()}
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
    context.engine.live.wait_for(context.engine.live.last_sequence, _SHOWN_SECONDS)
    expression = FilterTranslator(AttributeCatalog(context.visible(permit).fields)).expression(
        parse_refinements(payload)
    )
    if not expression:
        raise QueryError(f"deleteBy needs one of {', '.join(sorted(FILTERING))}; clearObjects deletes all objects")
    check_writable(context, index)
    where = combine_filters((*permit.filters, expression))
    result = context.append(permit, lambda products: [Delete(each) for each in products.ids(where)])
    stored.adopt_name(index)
    return WriteResult(published_task(context, result.sequence), updated=now_text())


@router.post("/indexes/{index}/clear", summary="Delete all objects")
def clear(context: Contextual, permit: MayWrite, index: Index) -> WriteResult:
    """Rules, synonyms and settings are kept."""
    return WriteResult(_apply(context, permit, index, [Write("clear")]), updated=now_text())


@router.get("/indexes/{index}/task/{task_id}", summary="Progress of a task")
def index_task(context: Contextual, _permit: MayWrite, index: Index, task_id: TaskId) -> TaskResult:  # noqa: ARG001
    """Changes are published once all worker processes show them, and within a second in other services."""
    return _task_result(context, task_id)


@router.get("/task/{task_id}", summary="Progress of a task of the application")
def application_task(context: Contextual, _permit: MayWrite, task_id: TaskId) -> TaskResult:
    """Like the task of an index, without the index name."""
    return _task_result(context, task_id)


def _task_result(context: ServiceContext, task_id: int) -> TaskResult:
    if task_id == 1 and not context.engine.live.last_sequence:
        return TaskResult("published")
    if task_id <= context.engine.live.sequence and is_shown_by_all(context.shared.group, context.name, task_id):
        return TaskResult("published")
    if task_id > context.engine.live.last_sequence:
        raise UnknownTaskError(f"there is no task {task_id}")
    return TaskResult("notPublished", pending=True)


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
    context.shared.charge(permit, search_cost(hits=len(writes)))
    check_writable(context, index)
    filters = combine_filters(permit.filters)
    applied = context.append(
        permit, lambda products: WritePlan(products.find, lambda: products.ids(filters)).add_all(writes)
    )
    context.companion(ProtocolStore).adopt_name(index)
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
