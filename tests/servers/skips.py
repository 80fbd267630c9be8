"""Tests without their server or program: skipped, or failed if servers are required."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

from tests.servers import ServerUnavailableError
from tests.servers.configuration import Options
from tests.servers.distribution import VERSION_8
from tests.servers.server import Server
from tests.servers.shared import SharedServers

REQUIRE = "SHELFWISE_REQUIRE_SERVERS"
_SKIPPED = "no server or program, which `make servers` installs as root on Debian or Ubuntu: "


def get_or_skip(servers: SharedServers, name: str, options: Options) -> Server:
    """The run's server of a name. If it cannot be started, the test is skipped, or fails if servers are required."""
    try:
        return servers.get(name, options)
    except ServerUnavailableError as error:
        missing = str(error)
    # Outside of the except clause, or pytest would print the reason twice.
    if options.version == VERSION_8 and (os.environ.get("CI") or os.environ.get(REQUIRE) == "1"):
        pytest.fail(f"{missing} (CI or {REQUIRE} is set, so this is no reason to skip)", pytrace=False)
    pytest.skip(f"{_SKIPPED}{missing}")


def program_or_skip(name: str, package: str) -> str:
    """The path of a program; without it the test is skipped, or fails if servers are required by the variable."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    return found or skip_for(f"{name} was not found: install {package}")


def skip_for(missing: str) -> NoReturn:
    """Skips a test because of a missing requirement, or fails it if servers are required by the variable."""
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{missing} ({REQUIRE} is set, so this is no reason to skip)", pytrace=False)
    pytest.skip(f"{_SKIPPED}{missing}")
