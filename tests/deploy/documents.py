"""Readers of the files of `deploy/` for tests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from shelfwise.service.cli.main import COMMANDS, load_command
from shelfwise.service.settings import Settings, load_settings, setting_names, variable_name

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"
KUBERNETES = DEPLOY / "kubernetes"
_METRIC = re.compile(r"\bshelfwise_[a-z_]+")

Document = dict[str, Any]


def documents(path: Path) -> list[Document]:
    return [each for each in yaml.safe_load_all(path.read_text("utf-8")) if each is not None]


def alerts() -> list[Document]:
    (rules,) = documents(ALERTS)
    return [rule for group in rules["groups"] for rule in group["rules"]]


def panels() -> list[Document]:
    dashboard: Document = json.loads(DASHBOARD.read_text("utf-8"))
    return [inner for panel in dashboard["panels"] for inner in (panel, *panel.get("panels", ()))]


def expressions() -> Iterator[tuple[str, str]]:
    for alert in alerts():
        yield alert["alert"], alert["expr"]
    for panel in panels():
        for target in panel.get("targets", ()):
            yield f"{panel['title']} {target['refId']}", target["expr"]


def filled_in(expression: str, variables: Mapping[str, str]) -> str:
    for name, value in variables.items():
        expression = expression.replace(name, value)
    return expression


def check_program(command: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings of a container; asserts that the program has its options, and that its variables are settings."""
    options = {option for parameter in load_command("", COMMANDS[command]).params for option in parameter.opts}
    assert {each for each in arguments if each.startswith("--")} <= options
    variables = {each for each in environment if each.startswith("SHELFWISE_")}
    assert variables <= set(map(variable_name, setting_names()))
    return load_settings(environment=environment)


def named_metrics() -> set[str]:
    texts = [expression for _, expression in expressions()]
    texts += [path.read_text("utf-8") for path in sorted(KUBERNETES.glob("*adapter*.yaml"))]
    return {name for text in texts for name in _METRIC.findall(text)}
