"""The file that names the ranker which serves, replaced at once: a reader meets the old name or the new one."""

from __future__ import annotations

import re
from pathlib import Path

from retrieval.errors import RankerDamagedError
from retrieval.manifest import file_stamp, sync, write_durably
from retrieval.store_files import CURRENT, pointer_content, read_pointer

RANKER_NAME = re.compile(r"ranker-[0-9]{4,}")
NO_RANKER = "off"
"""What stands for none where a ranker may be named."""
_SAID = re.compile(f"{RANKER_NAME.pattern}|{NO_RANKER}")
_CURE = "let a ranker serve anew: shelfwise models rollback"


class RankerPointer:
    """CURRENT in a folder of rankers: a name, or "off", with a checksum."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / CURRENT

    def read(self) -> str:
        """The ranker that serves; nothing where none was published or rankers are switched off.

        Raises RankerDamagedError for a file that cannot be read, or names no ranker.
        """
        said = self._said()
        return "" if said == NO_RANKER else said

    def is_off(self) -> bool:
        """Whether somebody switched rankers off; False where it cannot be read."""
        try:
            return self._said() == NO_RANKER
        except RankerDamagedError:
            return False

    def readable(self) -> str:
        """As `read`, and nothing where it cannot be read."""
        try:
            return self.read()
        except RankerDamagedError:
            return ""

    def write(self, name: str) -> None:
        """Lets a ranker serve, or none where the name is empty."""
        write_durably(self._path, pointer_content(name or NO_RANKER))

    def remove(self) -> None:
        """Names none, as before the first was published."""
        self._path.unlink(missing_ok=True)
        sync(self._path.parent)

    def stamp(self) -> tuple[int, int]:
        """Changes whenever it is written."""
        return file_stamp(self._path)

    def _said(self) -> str:
        try:
            return read_pointer(self._path, _SAID)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise RankerDamagedError(f"{self._path} cannot be read ({error.strerror}); {_CURE}") from error
        except ValueError as error:
            raise RankerDamagedError(f"{self._path} names no ranker, {error}; {_CURE}") from error
