"""What a run did without, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def left_out_in_words(left_out: Mapping[str, Any]) -> Iterator[str]:
    """Say what a run did without: a line for each client, kind of message and reason."""
    for each in left_out.get("clients", []):
        yield f"left out: client {each['client']} ({each['at']}): {each['reason']}"
    for client, count in left_out.get("files", {}).items():
        files = "1 file" if count == 1 else f"{count:,} files"
        yield f"left out: {files} of client {client}, whose log names them"
    for client, names in left_out.get("columns", {}).items():
        yield (
            f"left out: columns of client {client} that fewer than half of the clients have: "
            f"{', '.join(names)}"
        )
    if classes := left_out.get("classes"):
        yield f"left out: classes without a test sample at any client: {', '.join(classes)}"
