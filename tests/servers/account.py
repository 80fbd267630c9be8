"""The user that runs a server, and its folders: Elasticsearch refuses to run as root."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from tests.servers import ServerUnavailableError

USER = "shelfwise-es"
_CACHE = "shelfwise-tests"


@dataclass(frozen=True, slots=True)
class Account:
    """The user that runs a server.

    `user` and `group` are None for the current user. `cache` stores unpacked servers for later runs, `scratch` the
    files that a server writes; the account can access both.
    """

    user: int | None
    group: int | None
    cache: Path
    scratch: Path

    @property
    def extra_groups(self) -> list[int] | None:
        return None if self.user is None else []

    def new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="shelfwise-es-", dir=self.scratch))

    def own(self, folder: Path) -> None:
        if self.user is None or self.group is None:
            return
        for path in (folder, *folder.rglob("*")):
            os.chown(path, self.user, self.group)


def find_account() -> Account:
    """The current user, or a system user, created once, if the current user is root."""
    if os.geteuid() != 0:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Account(None, None, _made(Path(home) / _CACHE), Path(tempfile.gettempdir()))
    # The home of root and TMPDIR are often closed to other users; these folders are not.
    cache = _made(Path("/var/cache") / _CACHE)
    with FileLock(cache / "account.lock"):
        entry = _system_user()
    return Account(entry.pw_uid, entry.pw_gid, cache, Path("/var/tmp"))  # noqa: S108 (mkdtemp draws a name in it)


def reachable(path: Path) -> bool:
    return os.geteuid() != 0 or all(each.stat().st_mode & stat.S_IXOTH for each in (path, *path.parents))


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    return folder


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        pass
    program = shutil.which("useradd")
    if program is None:
        raise ServerUnavailableError(f"Elasticsearch refuses to run as root: make a user {USER!r}, or run as another")
    command = [program, "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", USER]
    made = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if made.returncode:
        raise ServerUnavailableError(f"no user to run Elasticsearch: {' '.join(command)} said {made.stderr.strip()}")
    return pwd.getpwnam(USER)
