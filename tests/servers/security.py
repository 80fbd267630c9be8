"""What a secured server needs: a certificate authority of its own, a superuser, and a user that may only read.

Users made over HTTP need an analyzer that this build lacks, so they are made by files, before the server starts.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers import ServerStartError, ServerUnavailableError
from tests.servers.account import Account
from tests.servers.keeper import NodeCommand

SUPERUSER = "elastic"
READER = "reader"
CA_CERTIFICATE = "ca.crt"

SETTINGS: dict[str, object] = {
    "xpack.security.enabled": True,
    **{
        f"xpack.security.{layer}.ssl.{name}": value
        for layer in ("http", "transport")
        for name, value in {
            "enabled": True,
            "key": "node.key",
            "certificate": "node.crt",
            "certificate_authorities": [CA_CERTIFICATE],
        }.items()
    },
}

_ROLES = """
reader:
  indices:
    - names: ["*"]
      privileges: [read, view_index_metadata]
"""

# Python 3.13 verifies strictly, so every extension that RFC 5280 asks for is there.
_OPENSSL = """
[req]
distinguished_name = name
prompt = no
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[node]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = IP:127.0.0.1, DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def make_certificates(folder: Path) -> None:
    """Writes `ca.crt`, and `node.crt` and `node.key` for 127.0.0.1 and localhost, valid for a few days."""
    program = shutil.which("openssl")
    if program is None:
        raise ServerUnavailableError("openssl, which makes a server's certificates, was not found: install openssl")
    (folder / "openssl.cnf").write_text(_OPENSSL, "utf-8")
    make = [program, "req", "-x509", "-config", "openssl.cnf", "-newkey", "rsa:2048", "-nodes", "-days", "7"]
    authority = ["-subj", "/CN=Shelfwise test authority", "-extensions", "authority"]
    node = ["-subj", "/CN=localhost", "-extensions", "node", "-CA", CA_CERTIFICATE, "-CAkey", "ca.key"]
    _run([*make, *authority, "-keyout", "ca.key", "-out", CA_CERTIFICATE], cwd=folder)
    _run([*make, *node, "-keyout", "node.key", "-out", "node.crt"], cwd=folder)


def write_files(certificates: Path, config: Path) -> None:
    for name in (CA_CERTIFICATE, "node.crt", "node.key"):
        shutil.copy(certificates / name, config)
    (config / "roles.yml").write_text(_ROLES, "utf-8")


def make_users(home: Path, nodes: Sequence[NodeCommand], account: Account) -> dict[str, str]:
    """Gives the superuser and the reader new passwords, in the files of every node; returns them by user."""
    passwords = {user: secrets.token_hex(16) for user in (SUPERUSER, READER)}
    keystore, users = (str(home / "bin" / f"elasticsearch-{name}") for name in ("keystore", "users"))
    add_password = [keystore, "add", "--force", "--stdin", "bootstrap.password"]
    add_reader = [users, "useradd", READER, f"-p{passwords[READER]}", "-r", READER]
    for node in nodes:
        _run(add_password, node.environment, account, passwords[SUPERUSER])
        _run(add_reader, node.environment, account)
    return passwords


def _run(
    command: list[str],
    environment: Mapping[str, str] | None = None,
    account: Account | None = None,
    given: str = "",
    cwd: Path = Path("/"),
) -> None:
    ran = subprocess.run(  # noqa: S603
        command,
        env=environment,
        cwd=cwd,
        input=given,
        user=account.user if account else None,
        group=account.group if account else None,
        extra_groups=account.extra_groups if account else None,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise ServerStartError(f"{Path(command[0]).name} {command[1]} failed: {(ran.stdout + ran.stderr).strip()}")
