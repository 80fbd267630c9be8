"""A trained network's way into the registry: exported once, judged as it will serve, then published or kept aside."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from rerank.gate.verdict import Verdict
from rerank.ranker.export import export_network
from rerank.ranker.network import RankerNetwork
from rerank.ranker.network_file import save_network
from rerank.ranker.registry import Added, Published, RankerRegistry
from rerank.ranker.spec import MODEL_FILE, WEIGHTS_FILE, RankerReport, RankerSpec
from rerank.training.checkpoint import CURVE_FILE, Epoch

Judge = Callable[[Published], tuple[RankerReport, Verdict]]
"""What a challenger reaches on held-out queries, and whether it may serve."""


def publish_judged(
    registry: RankerRegistry, network: RankerNetwork, curve: Sequence[Epoch], spec: RankerSpec, judge: Judge
) -> Added:
    """Lets a network serve where its verdict says so, and else keeps it aside with the reasons; what is judged is what
    is published. Raises what the registry raises."""
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        export_network(network, made / MODEL_FILE)
        save_network(network, made / WEIGHTS_FILE)
        (made / CURVE_FILE).write_bytes(msgspec.json.encode(curve))
        report, verdict = judge(Published("the new ranker", made, spec, RankerReport(created="")))

        def build(folder: Path) -> None:
            shutil.copytree(made, folder, dirs_exist_ok=True)

        if verdict.publish:
            return registry.publish(build, spec, report)
        return registry.keep_aside(build, spec, report, verdict.reasons)
