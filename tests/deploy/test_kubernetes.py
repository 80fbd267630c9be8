"""Kubernetes manifests and compose.yaml: valid, and with only existing files, options and settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from shelfwise.service.app import DRAIN_SECONDS
from tests.deploy.documents import DEPLOY, KUBERNETES, ROOT, Document, check_program, documents, named_metrics
from tests.deploy.test_alerts import promtool

_VERSIONS = ("1.31", "1.34")
"""Kubernetes versions; schemas of later ones have the same fields."""
(_KUSTOMIZATION,) = documents(KUBERNETES / "kustomization.yaml")


def resources() -> list[Document]:
    return [each for name in _KUSTOMIZATION["resources"] for each in documents(KUBERNETES / name)]


def pods() -> list[tuple[str, Document]]:
    made = []
    for each in resources():
        if each["kind"] in ("Deployment", "CronJob"):
            maker = each["spec"]["jobTemplate"] if each["kind"] == "CronJob" else each
            made.append((each["metadata"]["name"], maker["spec"]["template"]))
    return made


def named(kind: str, name: str) -> Document:
    (found,) = (each for each in resources() if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


@pytest.mark.parametrize("version", _VERSIONS)
def test_manifests_match_the_kubernetes_schema(version: str) -> None:
    for each in resources():
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize(("name", "pod"), pods())
def test_commands_use_existing_options_and_settings(name: str, pod: Document) -> None:
    common = named("ConfigMap", "shelfwise-settings")["data"]
    for container in pod["spec"]["containers"]:
        own = {each["name"]: each.get("value", "hush") for each in container["env"]}
        settings = check_program(container["args"][0], container["args"][1:], common | own)
        assert settings.cluster.urls, name
        assert settings.service.trusted_proxies, name


@pytest.mark.parametrize(("name", "pod"), pods())
def test_pods_have_minimal_privileges(name: str, pod: Document) -> None:
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert spec["automountServiceAccountToken"] is False
    volumes = {volume["name"] for volume in spec["volumes"]}
    for container in spec["containers"]:
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"]
        assert not rights["allowPrivilegeEscalation"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes, name


@pytest.mark.parametrize("name", ["shelfwise", "shelfwise-writer"])
def test_grace_period_allows_draining(name: str) -> None:
    spec = named("Deployment", name)["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    notice = float(container["args"][container["args"].index("--notice") + 1])
    probe = container["readinessProbe"]
    # Kubernetes must see that it is not ready while it still answers.
    assert notice >= 2 * probe["periodSeconds"] * probe["failureThreshold"]
    assert spec["terminationGracePeriodSeconds"] >= notice + DRAIN_SECONDS + 10


def test_only_one_pod_and_jobs_write() -> None:
    writing = set()
    for name, pod in pods():
        (container,) = pod["spec"]["containers"]
        (mount,) = (each for each in container["volumeMounts"] if each["name"] == "index")
        if not mount.get("readOnly"):
            writing.add(name)
    assert writing == {"shelfwise-writer", "shelfwise-learn"}
    writer = named("Deployment", "shelfwise-writer")["spec"]
    assert (writer["replicas"], writer["strategy"]["type"]) == (1, "Recreate")


def test_selectors_match_pods_and_ports_match_containers() -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in pods()}
    for each in resources():
        match each["kind"]:
            case "Service":
                chosen = [name for name, own in labels.items() if each["spec"]["selector"].items() <= own.items()]
                assert chosen == [each["metadata"]["name"]]
                (port,) = each["spec"]["ports"]
                assert port["targetPort"] == "http"
            case "PodDisruptionBudget":
                wanted = each["spec"]["selector"]["matchLabels"]
                assert [name for name, own in labels.items() if wanted.items() <= own.items()] == ["shelfwise"]
            case "HorizontalPodAutoscaler":
                assert each["spec"]["scaleTargetRef"]["name"] == "shelfwise"
                assert each["spec"]["minReplicas"] >= 2


def test_autoscaler_uses_a_metric_of_the_adapter() -> None:
    (values,) = documents(KUBERNETES / "adapter-values.yaml")
    brought = {rule["name"]["as"] for rule in values["rules"]["custom"]}
    scaler = named("HorizontalPodAutoscaler", "shelfwise")
    used = {each["pods"]["metric"]["name"] for each in scaler["spec"]["metrics"]}
    assert used <= brought
    assert used <= named_metrics()


def test_scrape_configuration_is_valid_for_prometheus(tmp_path: Path) -> None:
    (scrape,) = documents(KUBERNETES / "scrape.yaml")
    for job in scrape["scrape_configs"]:
        # Debian's promtool is built without Kubernetes service discovery.
        (pods_of,) = job.pop("kubernetes_sd_configs")
        assert pods_of == {"role": "pod", "namespaces": {"names": [_KUSTOMIZATION["namespace"]]}}
        kept = job["relabel_configs"][0]["regex"].split("|")
        assert kept == ["search", "writer"]
    file = tmp_path / "prometheus.yaml"
    file.write_text(yaml.safe_dump(scrape))
    promtool("check", "config", "--syntax-only", str(file))


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
