"""Options of a test server, and the files and the command of each of its nodes."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import security
from tests.servers.distribution import VERSION_8


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a test server. `settings` override the default ones in elasticsearch.yml."""

    version: str = VERSION_8
    heap: str = "512m"
    secured: bool = False
    nodes: int = 1
    settings: Mapping[str, object] = field(default_factory=dict)
    java_options: str = "-XX:TieredStopAtLevel=1"
    """Only the first compiler: the second takes a third of a start's CPU time, and pays off in few tests."""


@dataclass(frozen=True, slots=True)
class NodeCommand:
    command: list[str]
    environment: dict[str, str]
    log: str


@dataclass(frozen=True, slots=True)
class NodeFiles:
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    def port(self, kind: str) -> int | None:
        try:
            address = (self.folder / "logs" / f"{kind}.ports").read_text("utf-8")
        except FileNotFoundError:
            return None
        return int(address.split()[0].rpartition(":")[2])

    def seed(self, transport_ports: list[int]) -> None:
        """Writes the ports of all nodes to the file that the node reads every second."""
        hosts = self.config / "unicast_hosts.txt"
        partial = hosts.with_suffix(".partial")
        partial.write_text("".join(f"127.0.0.1:{port}\n" for port in transport_ports), "utf-8")
        partial.chmod(0o644)
        partial.replace(hosts)


def write_nodes(options: Options, home: Path, folder: Path, passwords: Mapping[str, str]) -> list[NodeFiles]:
    """Writes the configuration of every node, and the certificates and users that they share, into a new folder."""
    nodes = [NodeFiles(folder / f"node-{place}") for place in range(1, options.nodes + 1)]
    settings = _settings(options, [node.name for node in nodes])
    if options.secured:
        security.make_certificates(folder)
    for node in nodes:
        for needed in ("config", "data", "logs", "scratch"):
            (node.folder / needed).mkdir(parents=True)
        for shipped in ("jvm.options", "log4j2.properties", "users", "users_roles"):
            shutil.copy(home / "config" / shipped, node.config)
        paths = {"path.data": str(node.folder / "data"), "path.logs": str(node.folder / "logs")}
        # JSON is a subset of YAML.
        text = json.dumps({**settings, **paths, "node.name": node.name, **options.settings}, indent=1)
        (node.config / "elasticsearch.yml").write_text(text, "utf-8")
        if options.secured:
            security.write_files(folder, node.config, passwords)
    return nodes


def _settings(options: Options, names: list[str]) -> dict[str, object]:
    # With port 0 no other process can take the port first; the server writes its port to a file.
    common = {
        "cluster.name": f"shelfwise-{secrets.token_hex(4)}",
        "network.host": "127.0.0.1",
        "http.port": 0,
        "transport.port": 0,
        "node.portsfile": True,
        "cluster.routing.allocation.disk.threshold_enabled": False,
    }
    alone: dict[str, object] = {"discovery.type": "single-node"}
    several: dict[str, object] = {
        "discovery.seed_providers": "file",
        "cluster.initial_master_nodes": names,
        # Otherwise the ports of a node without a master remain unknown for 30 seconds.
        "discovery.initial_state_timeout": "0s",
    }
    secured = security.SETTINGS if options.secured else {"xpack.security.enabled": False}
    return {**common, **(alone if len(names) == 1 else several), **secured}


def node_command(node: NodeFiles, options: Options, home: Path, java: Path) -> NodeCommand:
    """The command of a node; of this process's environment it gets only the PATH."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(node.folder),
        "ES_JAVA_HOME": str(java),
        "ES_PATH_CONF": str(node.config),
        "ES_TMPDIR": str(node.folder / "scratch"),
        "ES_JAVA_OPTS": f"-Xms{options.heap} -Xmx{options.heap} {options.java_options}",
        "CLI_JAVA_OPTS": options.java_options,
    }
    return NodeCommand([str(home / "bin" / "elasticsearch")], environment, str(node.console))
