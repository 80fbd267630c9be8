"""Elasticsearch from Maven, unpacked once per machine, and the Java that runs it.

The artifact is Elasticsearch's own build for integration tests: the core with security and without most modules, so it
lacks `GET /`, scripts, delete_by_query and language analyzers.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from tests.servers import ServerUnavailableError
from tests.servers.account import reachable

VERSION_8 = "8.19.5"
VERSION_9 = "9.2.0"

_ARTIFACT = "org.elasticsearch.distribution.integ-test-zip:elasticsearch"
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
_DOWNLOAD_SECONDS = 600
_JVMS = Path("/usr/lib/jvm")
_JAVA_VERSION = re.compile(r'^JAVA_VERSION="(\d+)', re.MULTILINE)


def find_java(version: str) -> Path:
    """The home of a Java for an Elasticsearch version: of JAVA_HOME, the PATH, or the installed ones, in this order."""
    least = 17 if version.startswith("8.") else 21
    for home in _java_homes():
        if _java_version(home) >= least and reachable(home / "bin" / "java"):
            return home
    raise ServerUnavailableError(
        f"Elasticsearch {version} needs Java {least} or newer and none was found: "
        f"install openjdk-{least}-jre-headless, or let JAVA_HOME name one that every user can read"
    )


def _java_homes() -> Iterator[Path]:
    if named := os.environ.get("JAVA_HOME"):
        yield Path(named)
    if program := shutil.which("java"):
        yield Path(program).resolve().parents[1]
    if _JVMS.is_dir():
        yield from sorted(_JVMS.iterdir())


def _java_version(home: Path) -> int:
    release = home / "release"
    if not (release.is_file() and (home / "bin" / "java").is_file()):
        return 0
    found = _JAVA_VERSION.search(release.read_text("utf-8"))
    return int(found[1]) if found else 0


def elasticsearch_home(version: str, java: Path, cache: Path) -> Path:
    """The folder of an unpacked Elasticsearch, which the first caller on a machine downloads."""
    home = cache / f"elasticsearch-{version}"
    with FileLock(cache / f"elasticsearch-{version}.lock"):
        if not home.is_dir():
            # A process killed while unpacking left a partial folder; the lock ensures that no other process uses it.
            partial = cache / f"elasticsearch-{version}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            _unpack(_download(version, java, partial), partial)
            (partial / home.name).rename(home)
            shutil.rmtree(partial)
    return home


def _download(version: str, java: Path, folder: Path) -> Path:
    maven = shutil.which("mvn")
    if maven is None:
        raise ServerUnavailableError(f"Maven, which brings Elasticsearch {version}, was not found: install maven")
    wanted = [f"-Dartifact={_ARTIFACT}:{version}:zip", f"-DoutputDirectory={folder}"]
    command = [maven, "-q", "-B", "-Dstyle.color=never", _COPY, *wanted]
    environment = {**os.environ, "JAVA_HOME": str(java)}
    try:
        subprocess.run(  # noqa: S603
            command, env=environment, cwd=folder, capture_output=True, text=True, check=True, timeout=_DOWNLOAD_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise ServerUnavailableError(f"Maven did not bring Elasticsearch {version} in {error.timeout} s") from error
    except subprocess.CalledProcessError as error:
        output = (error.stdout + error.stderr).strip().splitlines()[:1]
        raise ServerUnavailableError(
            f"Maven could not bring Elasticsearch {version}; is there a network? It said: {' '.join(output)}"
        ) from error
    return folder / f"elasticsearch-{version}.zip"


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks an archive, readable and executable for every user; zipfile alone loses the modes."""
    with zipfile.ZipFile(archive) as source:
        for member in source.infolist():
            path = Path(source.extract(member, folder))
            runs = member.is_dir() or member.external_attr >> 16 & 0o111
            path.chmod(0o755 if runs else 0o644)
