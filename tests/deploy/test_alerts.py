"""Alert rules and the dashboard: their metrics exist, and alerts fire when they should."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from shelfwise.service.app import create_app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import ServiceSettings, Settings
from tests.deploy.documents import ALERTS, ROOT, alerts, documents, expressions, filled_in, named_metrics
from tests.servers.skips import program_or_skip
from tests.services import local_client

_VARIABLES = {"$__rate_interval": "5m", "$job": "shelfwise", "$instance": ".*"}
_TESTS = ALERTS.with_name("alerts_test.yaml")


@pytest.fixture(scope="module")
def metrics(demo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = Path(shutil.copytree(demo_index, tmp_path_factory.mktemp("watched") / "store"))
    (root / "popularity.json").touch()
    with (
        SearchEngine.open(root, settings=Settings(backend="embedded")) as engine,
        local_client(create_app(engine, ServiceSettings())) as client,
    ):
        client.get("/v1/search", params={"q": "drill", "session": "s"})
        yield client.get("/metrics").text


def promtool(*arguments: str) -> None:
    program = program_or_skip("promtool", "prometheus")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)  # noqa: S603 - our files
    assert done.returncode == 0, done.stdout + done.stderr


def test_alert_rules_fire_in_their_scenarios() -> None:
    promtool("check", "rules", str(ALERTS))
    promtool("test", "rules", str(_TESTS))


def test_every_rule_is_tested() -> None:
    (tests,) = documents(_TESTS)
    fired = {
        expected["alertname"]
        for each in tests["tests"]
        for expected in each.get("alert_rule_test", ())
        if expected["exp_alerts"]
    }
    assert fired == {alert["alert"] for alert in alerts()}


def test_every_alert_has_a_description_and_a_runbook_link() -> None:
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs/operations.md").read_text("utf-8"), re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    for alert in alerts():
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert page == "docs/operations.md"
        assert anchor in anchors, anchor
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["description"].endswith(".")
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}


def test_every_metric_that_is_used_exists(metrics: str) -> None:
    known = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", metrics, re.MULTILINE):
        known |= {f"{name}{part}" for part in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    assert named_metrics() <= known, sorted(named_metrics() - known)


def test_every_expression_of_the_dashboard_can_be_parsed(tmp_path: Path) -> None:
    rules = [
        {"record": f"shelfwise:{number}", "expr": filled_in(expression, _VARIABLES)}
        for number, (_, expression) in enumerate(expressions())
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    promtool("check", "rules", str(file))
