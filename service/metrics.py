"""What an engine counts, for whoever watches it: Prometheus metrics in the process's default registry."""

from __future__ import annotations

from prometheus_client import Counter

DEGRADED = Counter(
    "shelfwise_degraded_searches", "Searches that were answered without a stage that should have taken part", ["stage"]
)
UNSERVED = Counter(
    "shelfwise_unserved_experiment_searches",
    "Searches that took no part in an experiment, as one of its rankers could not serve",
    ["experiment"],
)
