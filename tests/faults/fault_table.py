"""The table of faults: what is promised, and what tests saw happen.

Tests add a line to the file that FEDDAG_FAULT_TABLE names; then

    python tests/faults/fault_table.py FILE

writes the table of docs/faults.md.
"""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- table of faults -->\n", "<!-- end of table -->\n"

# Key: what is done, and what is promised of it. The table has this order.
FAULTS = {
    "raises": (
        "a client raises: its data file is damaged between two rounds",
        "costs its own update and a log line with its name; it is back once the file is whole",
    ),
    "sigkill": (
        "SIGKILL of a node in a round, restarted with its key",
        "the round goes on without it; the same key is the same client, in the same cluster",
    ),
    "no-key": (
        "... restarted without its key (TLS, node authentication)",
        "the SuperLink refuses it; nobody trains under the name",
    ),
    "no-key-insecure": (
        "... restarted without keys at all (insecure mode, `identity=\"name\"`)",
        "a new node takes the name over once the old one is gone, not before",
    ),
    "sigterm": (
        "SIGTERM of a node in a round, started again",
        "it takes its leave; the round does not wait for it longer than for a lost one",
    ),
    "frozen-node": (
        "a whole node is frozen (SIGSTOP) in a round, and thawed after it",
        "the round ends without it at the latest after `round-timeout`; it goes on when thawed",
    ),
    "frozen-app": (
        "the process of a client app is frozen past `round-timeout`, its node is well; thawed",
        "no reply within `round-timeout` costs that update; a late reply is dropped",
    ),
    "network": (
        "a node's network is cut (its card goes down, nobody is told) and restored",
        "as a frozen node; nothing has to be restarted",
    ),
    "superlink": (
        "SIGKILL of the SuperLink in a round, started again",
        "the run survives: the same server app, the same nodes",
    ),
    "server-app": (
        "SIGKILL of the server app in a round, `resume`",
        "loses the round under way and no finished one",
    ),
    "damaged": (
        "SIGKILL of the server app, its newest checkpoint damaged, `resume`",
        "the log says what is damaged; the checkpoint before is used",
    ),
    "disk-full": (
        "the server's disk is full for some rounds",
        "a log line a round; rounds go on; older checkpoints can be used; lines come later",
    ),
    "nan": (
        "a node replies NaN",
        "costs its own update and a log line with its name; no model takes it in",
    ),
    "garbage": ("a node replies bytes that are no arrays", "as above"),
    "wrong-parts": ("a node replies other parts than asked for", "as above"),
    "oversized": ("a node replies arrays of 64 MB where 65 kB were to be expected", "as above"),
    "absurd": ("a node replies an update a million times too long", "as above"),
    "large": (
        "a node replies 256 MB, `max-reply-size` is 64 MB",
        "as above, once so much has come; the SuperLink's database forgets it",
    ),
    "trickle": (
        "a node sends its reply bit by bit, a part every 20 s",
        "the round ends without it after `round-timeout`; the others' replies are read meanwhile",
    ),
    "stall": ("a node begins its reply and sends nothing more", "as above"),
    "many": (
        "eight real nodes join a run at once",
        "all are placed within ordinary rounds; nobody else moves",
    ),
    "fifty": (
        "fifty nodes join at once (in-process grid: no processes, real messages and training)",
        "as above",
    ),
}  # fmt: skip


def record(key, happened, *, lost, goes_on, back=None, redone=0):
    """Add what happened to the file that FEDDAG_FAULT_TABLE names, where it names one."""
    assert key in FAULTS
    entry = {
        "fault": key, "happened": happened, "failed": lost, "redone": redone,
        "goes-on": round(goes_on, 1), "back": None if back is None else round(back, 1),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    print(json.dumps(entry))
    if path := os.environ.get("FEDDAG_FAULT_TABLE"):
        with Path(path).open("a") as stream:
            stream.write(json.dumps(entry) + "\n")


def render(path):
    """The table of a file of measurements, the last one of each fault; as Markdown."""
    found = {}
    for line in Path(path).read_text().splitlines():
        entry = json.loads(line)
        found[entry["fault"]] = entry
    rows = [
        "| fault | promised | happened | finished rounds lost | next round after | "
        "whole again after |",
        "|---|---|---|---|---|---|",
    ]
    for key, (fault, promised) in FAULTS.items():
        if (entry := found.get(key)) is None:
            rows.append(f"| {fault} | {promised} | (no measurement here) | | | |")
            continue
        lost = f"{entry['lost']}" + (f" ({entry['redone']} done again)" if entry["redone"] else "")
        back = "" if entry["back"] is None else f"{entry['back']:.0f} s"
        rows.append(
            f"| {fault} | {promised} | {entry['happened']} | {lost} | {entry['goes-on']:.0f} s | "
            f"{back} |"
        )
    return "\n".join(rows) + "\n"


def main():
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(before + BEGIN + render(sys.argv[1]) + END + after)


if __name__ == "__main__":
    main()
