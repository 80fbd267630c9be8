"""compose.yaml: that it can be read, and names only files, options, settings and volumes that there are."""

from __future__ import annotations

import re
from typing import Any

import pytest

from service.app import DRAIN_SECONDS
from service.cli.main import COMMANDS, load_command
from service.settings import load_settings, setting_names, variable_name
from tests.deploy.documents import DEPLOY, ROOT, documents
from tests.deploy.test_alerts import promtool

(COMPOSE,) = documents(ROOT / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
_MADE_BY_ITS_USER = {"./feeds", "./prometheus.key"}


def test_every_file_that_is_mounted_is_there() -> None:
    named = {COMPOSE["secrets"][name]["file"] for service in SERVICES.values() for name in service.get("secrets", ())}
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                named.add(source)
            else:
                assert source in COMPOSE["volumes"]
    assert named >= _MADE_BY_ITS_USER
    assert [name for name in sorted(named - _MADE_BY_ITS_USER) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", OURS)
def test_ours_are_called_with_options_and_settings_that_there_are(name: str) -> None:
    service = SERVICES[name]
    command, *given = service["command"]
    if command != "--help":
        known = {option for parameter in load_command("", COMMANDS[command]).params for option in parameter.opts}
        assert {each for each in given if each.startswith("--")} <= known
    assert set(service["environment"]) <= set(map(variable_name, setting_names()))
    assert load_settings(environment=service["environment"]).backend == "elasticsearch"


def test_the_service_has_time_to_end_and_says_whether_it_is_ready() -> None:
    service = SERVICES["service"]
    assert int(service["stop_grace_period"].removesuffix("s")) >= DRAIN_SECONDS + 10
    _, _, _, program = service["healthcheck"]["test"]
    compile(program, "healthcheck", "exec")
    assert "/health/ready" in program


def test_what_depends_on_a_service_depends_on_one_that_there_is() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", ())) <= set(SERVICES)


def test_prometheus_asks_the_service_and_grafana_prometheus() -> None:
    (configuration,) = documents(DEPLOY / "prometheus" / "prometheus.yaml")
    (job,) = configuration["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    name, _, port = target.partition(":")
    assert SERVICES[name]["command"][-1] == port
    assert job["authorization"]["credentials_file"].removeprefix("/run/secrets/") in SERVICES["prometheus"]["secrets"]
    mounted = {volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]}
    assert set(configuration["rule_files"]) <= mounted
    promtool("check", "config", "--syntax-only", str(DEPLOY / "prometheus" / "prometheus.yaml"))
    (sources,) = documents(DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yaml")
    (service,) = re.findall(r"http://(\w+):", sources["datasources"][0]["url"])
    assert service in SERVICES


def test_nothing_is_reached_from_elsewhere() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
