"""Security of a test server: a certificate, a superuser, and a user that may only read.

Users made over HTTP need an analyzer that this build lacks, so they are made by files, before the server starts. This
module writes the files, as each command of Elasticsearch that writes one takes three seconds of processor time.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.servers import ServerStartError, ServerUnavailableError

SUPERUSER = "owner"
READER = "reader"
CA_CERTIFICATE = "ca.crt"
_ROUNDS = 10_000

SETTINGS: dict[str, object] = {
    "xpack.security.enabled": True,
    **{
        f"xpack.security.{layer}.ssl.{name}": value
        for layer in ("http", "transport")
        for name, value in {
            "enabled": True,
            "key": "node.key",
            "certificate": CA_CERTIFICATE,
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


def make_certificates(folder: Path) -> None:
    """Writes `ca.crt`, which is also the certificate of each node for 127.0.0.1 and localhost, and `node.key`."""
    program = shutil.which("openssl")
    if program is None:
        raise ServerUnavailableError("openssl, which makes a server's certificates, was not found: install openssl")
    make = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "7", "-subj", "/CN=localhost"]
    # Python 3.13 verifies strictly, so all extensions required by RFC 5280 are included.
    usage = ["-addext", "keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    command = [*make, *usage, *names, "-keyout", str(folder / "node.key"), "-out", str(folder / CA_CERTIFICATE)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if ran.returncode:
        raise ServerStartError(f"openssl made no certificate: {ran.stderr.strip()}")


def write_files(certificates: Path, config: Path, passwords: Mapping[str, str]) -> None:
    """Writes a node's certificates, and its users with their passwords."""
    for name in (CA_CERTIFICATE, "node.key"):
        shutil.copy(certificates / name, config)
    (config / "roles.yml").write_text(_ROLES, "utf-8")
    (config / "users").write_text("".join(f"{user}:{_hashed(each)}\n" for user, each in passwords.items()), "utf-8")
    (config / "users_roles").write_text(f"superuser:{SUPERUSER}\nreader:{READER}\n", "utf-8")


def new_passwords() -> dict[str, str]:
    """New passwords of the superuser and the reader."""
    return {user: secrets.token_hex(16) for user in (SUPERUSER, READER)}


def _hashed(password: str) -> str:
    """The hash of a password in Elasticsearch's format: PBKDF2 with SHA-512, salt and key of 256 bits."""
    salt = secrets.token_bytes(32)
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ROUNDS, 32)
    return f"{{PBKDF2}}{_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"
