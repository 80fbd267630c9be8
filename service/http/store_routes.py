"""The index over HTTP: its versions, rankers and shopper towers, which of them serve, and what its shoppers did."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Response

from rerank.ranker.ranker_list import list_rankers
from rerank.ranker.registry import RankerRegistry
from rerank.shoppers.registry import TOWER_NAME, TowerRegistry
from rerank.shoppers.tower_list import list_towers
from retrieval.published import Store
from service.connection import cluster_versions
from service.event_report.stored import stored_report
from service.http.answers import RESPONSES, json_response
from service.http.bodies import RollbackBody
from service.http.context import Contextual, MayAdminister
from service.rollback import roll_back
from service.served_ranker import encoding_of
from service.version_list import list_versions

router = APIRouter(prefix="/v1", tags=["store"], responses=RESPONSES)

Document = dict[str, Any]


@router.get("/versions", response_model=list[Document], summary="The published versions")
async def versions(context: Contextual, _permit: MayAdminister) -> Response:
    """Oldest first: what each holds, what it changed, and which one serves."""
    return json_response(await context.workers.run(lambda: list_versions(Store(context.engine.root))))


@router.post("/versions/rollback", response_model=Document, summary="Let an earlier version serve")
async def rollback_version(context: Contextual, _permit: MayAdminister, body: RollbackBody) -> Response:
    """The one that is named, or the newest whole one before; 409 while a rebuild is at work."""

    def rolled_back() -> object:
        store = Store(context.engine.root)
        with store.locked("rollback"), cluster_versions(store) as cluster:
            done = roll_back(store, body.name, cluster)
        context.engine.refresh()
        return done

    return json_response(await context.workers.run(rolled_back))


@router.get("/models", response_model=Document, summary="The rankers and shopper towers")
async def models(context: Contextual, _permit: MayAdminister) -> Response:
    """How each was judged, and which one serves."""

    def listed() -> Document:
        snapshot, root = context.engine.snapshot, context.engine.root
        rankers: Document = msgspec.to_builtins(list_rankers(RankerRegistry(root), encoding_of(snapshot)))
        manifest = snapshot.manifest
        return rankers | {"shopper_towers": list_towers(TowerRegistry(root), manifest.encoder, manifest.dimension)}

    return json_response(await context.workers.run(listed))


@router.post("/models/rollback", response_model=Document, summary="Let an earlier ranker or shopper tower serve")
async def rollback_model(context: Contextual, _permit: MayAdminister, body: RollbackBody) -> Response:
    """The one that is named, or the newest ranker before the one that serves that can."""

    def rolled_back() -> Document:
        if TOWER_NAME.fullmatch(body.name):
            manifest = context.engine.snapshot.manifest
            towers = TowerRegistry(context.engine.root)
            gone_back = towers.rollback(body.name, manifest.encoder, manifest.dimension)
            context.engine.look()
            return {"before": gone_back.before, "tower": gone_back.tower.name}
        registry = RankerRegistry(context.engine.root)
        done = registry.rollback(body.name, encoding_of(context.engine.snapshot))
        context.engine.look()
        return {"before": done.before, "ranker": done.ranker.name, "passed_over": done.passed_over}

    return json_response(await context.workers.run(rolled_back))


@router.get("/reports/events", response_model=Document, summary="What shoppers did")
async def events_report(context: Contextual, _permit: MayAdminister) -> Response:
    """The report on the tables that were last made of events: shelfwise events refresh makes them."""
    return json_response(await context.workers.run(lambda: stored_report(context.engine.root)))
