"""compose.yaml: valid, and with only existing files, options, settings and volumes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from shelfwise.service.app import DRAIN_SECONDS
from tests.deploy.documents import DEPLOY, ROOT, check_program, documents
from tests.deploy.test_alerts import promtool

(COMPOSE,) = documents(ROOT / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
_MADE_BY_ITS_USER = {"./feeds", "./prometheus.key"}


def test_mounted_files_exist() -> None:
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
def test_commands_use_known_options_and_settings(name: str) -> None:
    service = SERVICES[name]
    command = ["serve"] if service["command"] == ["--help"] else service["command"]
    assert check_program(command[0], command[1:], service["environment"]).backend == "elasticsearch"


def test_service_has_a_stop_period_and_a_health_check() -> None:
    service = SERVICES["service"]
    assert int(service["stop_grace_period"].removesuffix("s")) >= DRAIN_SECONDS + 10
    _, _, _, program = service["healthcheck"]["test"]
    compile(program, "healthcheck", "exec")
    assert "/health/ready" in program


def test_prometheus_scrapes_the_service_and_grafana_reads_prometheus() -> None:
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


def test_ports_are_bound_to_localhost() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
