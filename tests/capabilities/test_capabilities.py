"""The capabilities of Shelfwise. Each has a test of its name in this folder, which no later change may delete."""

from __future__ import annotations

import re
from pathlib import Path

CAPABILITIES = (
    *("rebuild", "python_api", "latency_run", "recall_run", "web_store", "elasticsearch", "faiss", "data_quality"),
    *("text_towers", "user_tower", "shopper_sequence", "ranker_from_clicks", "losses_with_lora", "augmentation"),
    *("adversarial_training", "tuning", "ensembles", "recommendation", "cold_start", "sponsored_placement", "answers"),
    *("pictures", "relations", "pruning", "int8", "workers", "replicas", "ray", "monitoring", "keys", "forgetting"),
    *("fraud", "private_training", "federated_training", "reasons", "exposure", "off_policy_evaluation"),
    *("experiments", "rules", "mcp", "webhooks", "instantsearch"),
)


def test_every_capability_has_its_test() -> None:
    texts = "\n".join(path.read_text("utf-8") for path in sorted(Path(__file__).parent.glob("test_*.py")))
    assert set(CAPABILITIES) <= set(re.findall(r"^def test_(\w+)\(", texts, re.MULTILINE))
