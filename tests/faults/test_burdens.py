"""Three real nodes, of which one would fill the server, or hold it up."""

import json
import sqlite3
import threading
from contextlib import ExitStack, contextmanager

import psutil
import pytest
from hostile_app import BURDENS, write_hostile_app
from living_run import Fault, LivingRun

from feddag_lab.demonstration.example_parts import write_parts
from feddag_lab.demonstration.federation import federation

LIAR = "ward-2"
ALL = ["ward-1", LIAR, "ward-3"]
REASONS = {
    "large": "max-reply-size",
    "trickle": "passed round-timeout",
    "stall": "passed round-timeout",
}
ROUND_TIMEOUT = 90.0
# Bytes that the server app may take while it is sent 256 MB.
MOST_MEMORY = 1.0e9

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(3600)]


class Place:
    """The federation; `lies` is the file that says how the liar lies."""

    def __init__(self, folder, stack):
        self.made = stack.enter_context(federation(insecure=True))
        (folder / "data").mkdir()
        data = write_parts(folder / "data")
        self.lies = folder / "lies"
        self.lies.write_text("")
        for name in ALL:
            own = {"lies": str(self.lies)} if name == LIAR else {}
            self.made.add_node(name, {"client-name": name, "data-path": str(data[name]), **own})
        settings = {
            "num-clients": len(ALL), "run-dir": str(folder / "runs"), "recluster-share": 0.0,
            "round-timeout": ROUND_TIMEOUT, "max-reply-size": 64,
        }  # fmt: skip
        self.living = LivingRun(self.made, write_hostile_app(folder / "app"), settings)

    def seconds_of(self, server_round):
        """Seconds that a round's training took."""
        lines = (self.living.folder / "seconds.jsonl").read_text().splitlines()
        (found,) = [line for line in map(json.loads, lines) if line["round"] == server_round]
        return found["train"]

    def bytes_held(self):
        """Bytes of the objects of messages in the SuperLink's database."""
        path = self.made.home / "superlink.db"
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60) as database:
            pages, free, size = (
                database.execute(f"PRAGMA {what}").fetchone()[0]
                for what in ("page_count", "freelist_count", "page_size")
            )
        return (pages - free) * size


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with ExitStack() as stack:
        yield Place(tmp_path_factory.mktemp("burdens"), stack)


@contextmanager
def watched(process):
    """Give the largest memory of a process in a list that grows as it does."""
    most, done = [0], threading.Event()

    def watch():
        while not done.wait(0.05):
            try:
                most.append(max(most[-1], process.memory_info().rss))
            except psutil.Error:
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("burden", BURDENS)
def test_a_burden_costs_its_sender_its_update_and_nobody_a_round(place, burden):
    living = place.living
    place.lies.write_text("")
    living.wait_for_all(ALL)
    held = place.bytes_held()
    fault = Fault(living, burden)
    with watched(place.made.server_app()) as memory:
        place.lies.write_text(burden)
        line = fault.wait_without(LIAR, ALL)
        said = fault.wait_for(f"train: client {LIAR} is left out: .*{REASONS[burden]}")
    place.lies.write_text("")
    seconds = place.seconds_of(line["round"])
    assert seconds < ROUND_TIMEOUT + 15
    assert memory[-1] < MOST_MEMORY
    fault.mended()
    if burden == "stall":  # its app sleeps on
        place.made.nodes[LIAR].kill()
        place.made.nodes[LIAR].start()
    fault.wait_back(ALL)
    assert place.bytes_held() < held + 50e6
    fault.record(
        f"round {line['round']} ended with the others after {seconds:.0f} s; "
        f"server app {memory[-1] / 1e6:.0f} MB at most; log: "
        f"`{said.partition('left out: ')[2][:140].strip()}`"
    )
