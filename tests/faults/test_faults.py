"""One run of four real nodes, TLS and keys, while one process after the other is harmed.

Each test begins and ends with all four wards in a round. What is promised: `fault_table.FAULTS`.
"""

import re
import signal
import time
from contextlib import ExitStack
from os.path import basename
from pathlib import Path

import numpy as np
import psutil
import pytest
from cable import laid_cable
from living_run import PATIENCE, Fault, LivingRun, took_part
from small_disk import fill, mounted

from feddag_flwr.checkpoints import newest_checkpoint
from feddag_flwr.flower.commands import pause
from feddag_lab.demonstration.example_parts import write_parts
from feddag_lab.demonstration.federation import HOST, federation

ROOT = Path(__file__).resolve().parents[2]
# A client app that imports PyTorch has taken its message already.
WORKING_BYTES = 250_000_000
WARDS = ["ward-1", "ward-2", "ward-3", "ward-4"]

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(3600)]


class Hospital:
    """Four wards, a run, and what this machine lets us do to them."""

    def __init__(self, folder, stack):
        self.cable = stack.enter_context(laid_cable())
        self.small_disk = stack.enter_context(mounted(folder / "runs"))
        host = self.cable.host if self.cable else HOST
        self.made = stack.enter_context(federation(host=host))
        (folder / "data").mkdir()
        self.data = write_parts(folder / "data")
        for name in WARDS:
            through = self.cable.through if self.cable and name == "ward-4" else ()
            self.made.add_node(name, self.config(name), through=through)
        settings = {
            "num-clients": 4, "identity": "node",
            "run-dir": str(folder / "runs"), "run-name": "study",
        }  # fmt: skip
        self.living = LivingRun(self.made, ROOT, settings)

    def config(self, name):
        return {"client-name": name, "data-path": str(self.data[name])}

    def node(self, name):
        return self.made.nodes[name]

    def next_client_app(self, name):
        """Wait for the process that works on the node's next message, until it has that message.

        One that is frozen before is replaced by Flower.
        """
        since, deadline = time.time(), time.monotonic() + PATIENCE
        while True:
            for process in self.node(name).members():
                try:
                    started = process.create_time() > since  # the last one may still be there
                    works = started and process.memory_info().rss > WORKING_BYTES
                    if works and "flwr-clientapp" in map(basename, process.cmdline()):
                        return process
                except psutil.Error:
                    continue
            pause(deadline, 0.05)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    with ExitStack() as stack:
        yield Hospital(tmp_path_factory.mktemp("faults"), stack)


@pytest.fixture
def whole(hospital):
    """The hospital once all wards have taken part in a round."""
    hospital.living.wait_for_all(WARDS)
    return hospital


# -- nodes -----------------------------------------------------------------------------------------


def test_a_client_that_raises_costs_its_own_update(whole):
    path = whole.data["ward-1"]
    content = path.read_bytes()
    fault = Fault(whole.living, "raises")
    path.write_bytes(content[:1000])
    line = fault.wait_without("ward-1", WARDS)
    said = fault.wait_for(r"train: client ward-1 is left out: error 2: .*not a readable .npz")
    path.write_bytes(content)
    fault.mended()
    fault.wait_back(WARDS)
    assert fault.moved() == []
    reason = said[said.index("not a readable") :].partition(" (")[0]
    fault.record(
        f"round {line['round']} ended without it; log: `train: client ward-1 is left "
        f"out: error 2: .. ward-1.npz: {reason}`"
    )


def test_a_node_that_is_killed_comes_back_with_its_key_and_not_without(whole):
    living, node = whole.living, whole.node("ward-3")
    living.wait_asked(node)
    fault, without = Fault(living, "sigkill"), Fault(living, "no-key")
    node.kill()
    stranger = whole.made.add_node("ward-3-new-key", whole.config("ward-3"), register=False)
    line = fault.wait_without("ward-3", WARDS)
    fault.wait_for("train: client ward-3 is left out")
    stranger.wait_for("Failed to activate SuperNode", PATIENCE)
    without.goes_on()
    assert "SuperNode ID" not in stranger.log()

    fault.mended()
    without.mended()
    node.connect(PATIENCE)
    refusals = node.log().count("Failed to activate SuperNode")
    fault.wait_back(WARDS)
    without.end()
    assert node.log().count(f"SuperNode ID: {node.node_id}") == 2
    assert fault.moved() == []
    assert "Receiving" not in stranger.log()
    fault.record(
        f"round {line['round']} ended without it; then the same node id and cluster again"
        + (f", after the key was refused {refusals} times" if refusals else "")
    )
    without.record("`Failed to activate SuperNode`, its process ended; back with the key")


def test_a_node_that_is_asked_to_end_takes_its_leave(whole):
    living, node = whole.living, whole.node("ward-2")
    living.wait_asked(node)
    fault = Fault(living, "sigterm")
    node.terminate()
    gone = living.wait_round(lambda line: took_part(line) == set(WARDS) - {"ward-2"}, fault.last)
    fault.goes_on()
    fault.mended()
    node.connect(PATIENCE)
    fault.wait_back(WARDS)
    assert node.log().count(f"SuperNode ID: {node.node_id}") == 2
    assert fault.moved() == []
    fault.record(f"round {gone['round']} ended without it; same id and cluster again")


def test_frozen_processes_hold_up_a_round_no_longer_than_its_timeout(whole):
    living = whole.living
    frozen = whole.node("ward-1")
    app = whole.next_client_app("ward-2")
    node_fault, app_fault = Fault(living, "frozen-node"), Fault(living, "frozen-app")
    app.send_signal(signal.SIGSTOP)
    frozen.freeze()
    line = living.wait_round(
        lambda line: {"ward-1", "ward-2"} <= set(line["failed"]), node_fault.last
    )
    node_fault.goes_on()
    app_fault.goes_on()
    said = node_fault.wait_for("train: client ward-1 is left out")
    late = app_fault.wait_for("train: client ward-2 is left out: (no reply within 45 s|.*expired)")
    assert frozen.running
    assert app.is_running()
    node_fault.mended()
    app_fault.mended()
    app.send_signal(signal.SIGCONT)
    frozen.thaw()
    node_fault.wait_back(WARDS)
    app_fault.end()
    assert node_fault.moved() == []
    ended = f"round {line['round']} ended without it"
    node_fault.record(f"{ended} (`{cut(said)}`); thawed, the same node took part again")
    app_fault.record(f"{ended} (`{cut(late)}`); thawed, its node took part again")


def test_a_network_that_was_cut_heals_by_itself(whole):
    if whole.cable is None:
        pytest.skip("network namespaces: not permitted on this machine (they need root)")
    living, node = whole.living, whole.node("ward-4")
    starts = node.log().count("SuperNode ID")
    living.wait_asked(node)
    fault = Fault(living, "network")
    whole.cable.cut()
    line = fault.wait_without("ward-4", WARDS)
    said = cut(fault.wait_for("train: client ward-4 is left out"))
    fault.mended()
    whole.cable.mend()
    fault.wait_back(WARDS)
    assert node.running
    assert fault.moved() == []
    again = node.log().count("SuperNode ID") - starts
    fault.record(
        f"round {line['round']} ended without it (`{said}`); the same process went on"
        + (f", connected anew {again} times" if again else "")
    )


# -- the server ------------------------------------------------------------------------------------


def test_a_run_survives_its_superlink(whole):
    living = whole.living
    living.wait_asked(whole.node("ward-1"))
    app = whole.made.server_app()
    fault = Fault(living, "superlink")
    whole.made.restart_superlink()
    fault.mended()
    living.wait_round(lambda line: line["replied"], fault.last)
    fault.goes_on()
    fault.wait_back(WARDS)
    assert whole.made.server_app() == app
    lost = sorted(
        {name for line in living.rounds() if line["round"] > fault.last for name in line["failed"]}
    )
    fault.record(
        "the run went on with the same server app and the same nodes; clients that missed a round "
        f"meanwhile: {', '.join(lost) or 'none'}"
    )


def test_a_full_disk_costs_log_lines_and_no_round(whole):
    if not whole.small_disk:
        pytest.skip("a disk to be filled: mounting is not permitted on this machine (needs root)")
    living = whole.living
    living.wait_asked(whole.node("ward-1"))  # no checkpoint is being written
    fault = Fault(living, "disk-full")
    filler = living.folder.parent / "filler"
    fill(filler)
    said = fault.wait_for("could not be written: No space left on device; the run goes on")
    failed = int(said.partition("round-")[2][:6])
    fault.wait_for(rf"round +{failed}/")
    fault.goes_on()
    fault.wait_for(rf"round +{failed + 1}/")
    usable = newest_checkpoint(living.folder).server_round
    assert 0 < failed - usable <= 2
    filler.unlink()
    filler.with_name("probe").unlink()
    fault.mended()
    line = fault.wait_back(WARDS)
    wait_checkpoint(living.folder, line["round"])
    fault.record(
        f"rounds {failed} and {failed + 1} went on, a log line each; the checkpoint of round "
        f"{usable} was whole; with room again the next one was written, and no line of "
        "metrics.jsonl is missing"
    )


def test_a_server_app_that_is_killed_resumes_after_its_last_finished_round(whole):
    living = whole.living
    living.wait_asked(whole.node("ward-1"))
    finished = wait_checkpoint(living.folder, living.rounds()[-1]["round"])
    fault = Fault(living, "server-app")
    killed = living.run
    whole.made.server_app().kill()
    fault.mended()
    living.resume()
    living.run.wait_for(r"the run goes on after round \d+", PATIENCE)
    assert f"the run goes on after round {finished}" in living.run.log()
    fault.wait_back(WARDS)
    assert killed.wait(PATIENCE).status == "finished:failed"
    assert fault.moved() == []
    fault.record(f"went on after round {finished}, the last that was finished; same clusters")


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(whole):
    living = whole.living
    living.wait_asked(whole.node("ward-1"))
    newest = wait_checkpoint(living.folder, living.rounds()[-1]["round"])
    fault = Fault(living, "damaged")
    whole.made.server_app().kill()
    path = living.folder / f"checkpoints/round-{newest:06d}/models/cluster-000.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    before = newest_checkpoint(living.folder)
    assert before.server_round == newest - 1
    fault.mended()
    living.resume()
    said = living.run.wait_for(rf"round-{newest:06d}.*cluster-000", PATIENCE)
    living.run.wait_for(f"the run goes on after round {newest - 1}", PATIENCE)
    fault.wait_back(WARDS)
    assert all(np.isfinite(each).all() for each in weights(newest_checkpoint(living.folder)))
    fault.record(f"log: `{said.partition('checkpoints/')[2][:120].strip()}`", redone=1)


def cut(line):
    """The reason that a log line gives for leaving a client out, cut to what a table holds."""
    return re.split(r"[.—]| - ", line.partition("left out: ")[2])[0].strip()


def wait_checkpoint(folder, at_least):
    """Wait until the checkpoint of a round is there; the newest round that has one."""
    for _ in range(int(PATIENCE)):
        found = newest_checkpoint(folder).server_round
        if found >= at_least:
            return found
        pause(float("inf"), 1.0)
    raise TimeoutError(f"no checkpoint of round {at_least}")


def weights(checkpoint):
    """All arrays of all cluster models."""
    for model in checkpoint.state.models:
        for part in model.values():
            yield part.floats
