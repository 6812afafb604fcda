"""The list of a checkpoint's files: what makes a torn or changed one known as such."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feddag_flwr.checkpoints.checkpoint import DamagedError

MANIFEST = "manifest.json"
# 4: models are named tensors, as PyTorch calls them.
FORMAT = 4
# A checkpoint's files, and nothing outside its folder.
_OWN_FILES = re.compile(r"(?:state|notes)\.json|(?:models|algorithm)/[^/\\]+\.safetensors")


def sha256(content: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Manifest:
    """The round and the SHA-256 of each of a checkpoint's files, by path below its folder.

    Sums tell accidents: torn writes, failing disks, edited files. They are no signature: who may
    write to the folder can make a checkpoint that looks right.
    """

    server_round: int
    files: dict[str, str]

    def to_bytes(self) -> bytes:
        """Write the manifest with a checksum of itself."""
        body = self._body() | {"checksum": self.checksum}
        return (json.dumps(body, indent=2) + "\n").encode()

    @property
    def checksum(self) -> str:
        """SHA-256 of all that the manifest says."""
        text = json.dumps(self._body(), sort_keys=True, separators=(",", ":"))
        return sha256(text.encode())

    def _body(self) -> dict[str, Any]:
        return {"format": FORMAT, "round": self.server_round, "files": self.files}

    @classmethod
    def load(cls, folder: Path, server_round: int) -> Manifest:
        """Read a checkpoint's manifest and check it against itself and the folder's name.

        `DamagedError` where it is missing, broken, changed, of another format or of another round.
        """
        try:
            body = json.loads((folder / MANIFEST).read_bytes())
            if body["format"] != FORMAT:
                raise DamagedError(
                    f"{MANIFEST} is of format {body['format']!r}, not {FORMAT}: "
                    "another version of feddag-flwr wrote it, and this one cannot use it"
                )
            manifest = cls(body["round"], dict(body["files"]))
            if manifest.checksum != body["checksum"]:
                raise DamagedError(f"{MANIFEST} does not agree with its own checksum")
        except OSError as error:
            raise DamagedError(f"{MANIFEST} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedError(f"{MANIFEST} is not a checkpoint's: {error!r}") from error
        if manifest.server_round != server_round:
            raise DamagedError(f"{MANIFEST} is of round {manifest.server_round}")
        for path in manifest.files:
            if not _OWN_FILES.fullmatch(path):
                raise DamagedError(f"{MANIFEST} names {path!r}, no file of a checkpoint")
        return manifest

    def read(self, folder: Path, path: str) -> bytes:
        """Read one file of the checkpoint; `DamagedError` unless it is the one that was written."""
        if path not in self.files:
            raise DamagedError(f"{MANIFEST} does not list {path}")
        try:
            content = (folder / path).read_bytes()
        except OSError as error:
            raise DamagedError(f"{path} cannot be read: {error.strerror}") from error
        if sha256(content) != self.files[path]:
            raise DamagedError(
                f"{path} has been changed: its {len(content)} bytes have another SHA-256"
            )
        return content
