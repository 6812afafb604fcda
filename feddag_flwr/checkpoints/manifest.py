"""The list of a checkpoint's files: what makes a torn or changed one known as such."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from feddag_flwr.checkpoints.errors import DamagedError

MANIFEST = "manifest.json"
# 3: FedDAG keeps how the views of clients were weighed, without which newcomers have no place;
# those of 2 had V among the views.
FORMAT = 3
# A checkpoint's files, and nothing outside its folder.
_ITS_FILES = re.compile(r"(?:state|notes)\.json|(?:models|memory)/[^/\\]+\.safetensors")


@dataclass(frozen=True)
class FileSum:
    """Size in bytes and SHA-256 of a file's content."""

    size: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> FileSum:
        """Sum up the content."""
        return cls(len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class Manifest:
    """What belongs to a checkpoint.

    Sums tell accidents: torn writes, failing disks, edited files. They are no signature: who may
    write to the folder can make a checkpoint that looks right.

    Attributes
    ----------
    server_round : int
        The round, as in the folder's name.
    files : dict of str to FileSum
        By path below the checkpoint's folder.
    groups : dict of str to str
        The file of each group of the algorithm's memory.
    """

    server_round: int
    files: dict[str, FileSum]
    groups: dict[str, str]

    @property
    def checksum(self) -> str:
        """SHA-256 of all that the manifest says."""
        return _checksum(self._body())

    def to_bytes(self) -> bytes:
        """Write the manifest with a checksum of itself."""
        return (json.dumps({**self._body(), "checksum": self.checksum}, indent=2) + "\n").encode()

    def _body(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "round": self.server_round,
            "groups": self.groups,
            "files": {path: asdict(each) for path, each in self.files.items()},
        }

    @classmethod
    def load(cls, folder: Path, server_round: int) -> Manifest:
        """Read a checkpoint's manifest and check it against itself and the folder's name.

        Raises
        ------
        DamagedError
            It is missing, broken, changed, of another format or of another round.
        """
        try:
            body = json.loads((folder / MANIFEST).read_bytes())
            if body["format"] != FORMAT:
                raise DamagedError(
                    f"{MANIFEST} is of format {body['format']!r}, not {FORMAT}: "
                    "another version of feddag-flwr wrote it, and this one cannot use it"
                )
            if body.pop("checksum") != _checksum(body):
                raise DamagedError(f"{MANIFEST} does not agree with its own checksum")
            found = cls(
                body["round"],
                {path: FileSum(**each) for path, each in body["files"].items()},
                dict(body["groups"]),
            )
        except OSError as error:
            raise DamagedError(f"{MANIFEST} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedError(f"{MANIFEST} is not a checkpoint's: {error!r}") from error
        if found.server_round != server_round:
            raise DamagedError(f"{MANIFEST} is of round {found.server_round}")
        for path in (*found.files, *found.groups.values()):
            if not _ITS_FILES.fullmatch(path):
                raise DamagedError(f"{MANIFEST} names {path!r}, no file of a checkpoint")
        return found

    def read(self, folder: Path, path: str) -> bytes:
        """Read one file of the checkpoint, and check that it is the one that was written.

        Raises
        ------
        DamagedError
            It is not listed, missing, or has other bytes.
        """
        if path not in self.files:
            raise DamagedError(f"{MANIFEST} does not list {path}")
        try:
            content = (folder / path).read_bytes()
        except OSError as error:
            raise DamagedError(f"{path} cannot be read: {error.strerror}") from error
        written = self.files[path]
        if len(content) != written.size:
            raise DamagedError(f"{path} has {len(content)} bytes, {written.size} were written")
        if FileSum.of(content) != written:
            raise DamagedError(f"{path} has been changed: its SHA-256 is another one")
        return content


def _checksum(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
