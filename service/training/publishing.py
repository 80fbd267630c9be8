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
from service.training.from_catalog import Progress

Judge = Callable[[Published], tuple[RankerReport, Verdict]]
"""What a challenger reaches on held-out queries, and whether it may serve."""


def publish_judged(
    registry: RankerRegistry,
    network: RankerNetwork,
    curve: Sequence[Epoch],
    spec: RankerSpec,
    judge: Judge,
    progress: Progress,
) -> Added:
    """Lets a network serve where its verdict says so, and else keeps it aside with the reasons; what is judged is what
    is published. Raises what the registry raises."""
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        progress.begin("export", None, "")
        export_network(network, made / MODEL_FILE)
        save_network(network, made / WEIGHTS_FILE)
        (made / CURVE_FILE).write_bytes(msgspec.json.encode(curve))
        progress.end(f"{(made / MODEL_FILE).stat().st_size / 1e6:,.1f} MB, as it will serve")
        report, verdict = judge(Published("the new ranker", made, spec, RankerReport(created="")))

        def build(folder: Path) -> None:
            shutil.copytree(made, folder, dirs_exist_ok=True)

        progress.begin("publish", None, "")
        if verdict.publish:
            added = registry.publish(build, spec, report)
        else:
            added = registry.keep_aside(build, spec, report, verdict.reasons)
        progress.end(f"{added.ranker.name} {'serves' if added.serves else 'is kept and does not serve'}")
        return added


def gated(verdict: Verdict) -> str:
    """What the gate decided, and why."""
    return f"{'may serve' if verdict.publish else 'may not serve'}: {'; '.join(verdict.reasons)}"
