"""What is measured when somebody looks, not when it happens: how old the index is, how much waits."""

from __future__ import annotations

import time

from prometheus_client import Gauge

from service.http.context import Context
from service.http.metrics import REFUSED, WAITING

INDEX_AGE = Gauge("shelfwise_index_age_seconds", "Since the version that serves was built")
PRODUCTS = Gauge("shelfwise_index_products", "Products of the version that serves")
EVENTS_WAITING = Gauge("shelfwise_events_waiting", "Events of searches that are not on the disk yet")
EVENTS_LOST = Gauge("shelfwise_events_lost", "Events of searches that could not be recorded")
SERVES = Gauge("shelfwise_serves", "1 for the version and the ranker that serve", ["version", "ranker"])
NOTICES = Gauge("shelfwise_notices", "Things that are wrong although searches are answered")


def refresh_gauges(context: Context) -> None:
    """Brings them up to now."""
    engine = context.engine
    snapshot = engine.snapshot
    INDEX_AGE.set(max(0.0, time.time() - snapshot.built))
    PRODUCTS.set(snapshot.manifest.products)
    EVENTS_WAITING.set(context.exposures.waiting)
    EVENTS_LOST.set(context.exposures.lost)
    NOTICES.set(len(engine.notices))
    WAITING.set(context.workers.taken)
    REFUSED.set(context.workers.refused)
    SERVES.clear()
    SERVES.labels(snapshot.manifest.version, engine.ranker).set(1)
