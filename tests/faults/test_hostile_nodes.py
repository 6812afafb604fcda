"""Three real nodes without keys: one of them lies, then starts again; then eight more come."""

import re
from contextlib import ExitStack

import numpy as np
import pytest
from hostile_app import LIES, write_hostile_app
from living_run import Fault, LivingRun, took_part

from feddag_flwr.checkpoints import newest_checkpoint
from feddag_lab.demonstration.example_parts import write_parts
from feddag_lab.demonstration.federation import federation
from feddag_lab.demonstration.node import CONNECTED

HONEST, LIAR = ["ward-1", "ward-3"], "ward-2"
ALL = sorted([*HONEST, LIAR])
NEWCOMERS = 8
REASONS = {
    "nan": "NaN",
    "garbage": "array",
    "wrong-parts": "array",
    "oversized": "bytes",
    "absurd": "max-update-ratio",
}

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(3600)]


class Place:
    """The federation; `lies` is the file that says how the liar lies."""

    def __init__(self, folder, stack):
        self.made = stack.enter_context(federation(insecure=True))
        (folder / "data").mkdir()
        self.data = write_parts(folder / "data")
        self.lies = folder / "lies"
        self.lies.write_text("")
        for name in ALL:
            own = {"lies": str(self.lies)} if name == LIAR else {}
            self.made.add_node(name, {**self.config(name), **own})
        # Eleven clients at once on two cores: a minute.
        wait = {"round-timeout": 180.0, "recluster-share": 0.0}
        settings = {"num-clients": len(ALL), "run-dir": str(folder / "runs"), **wait}
        self.living = LivingRun(self.made, write_hostile_app(folder / "app"), settings)

    def config(self, name):
        return {"client-name": name, "data-path": str(self.data[name])}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with ExitStack() as stack:
        yield Place(tmp_path_factory.mktemp("hostile"), stack)


@pytest.mark.parametrize("lie", LIES)
def test_a_liar_costs_its_own_update_and_is_named(place, lie):
    living = place.living
    place.lies.write_text("")
    living.wait_for_all(ALL)
    fault = Fault(living, lie)
    place.lies.write_text(lie)
    line = fault.wait_without(LIAR, ALL)
    said = fault.wait_for(f"train: client {LIAR} is left out: .*{REASONS[lie]}")
    for model in newest_checkpoint(living.folder).state.models:
        for name, part in model.items():
            assert np.isfinite(part.floats).all(), name
            assert np.abs(part.floats).max() < 10, name
    place.lies.write_text("")
    fault.mended()
    fault.wait_back(ALL)
    assert fault.moved() == []
    fault.record(
        f"round {line['round']} ended with the others; log: "
        f"`{said.partition('left out: ')[2][:140].strip()}`"
    )


def test_a_node_that_starts_again_without_keys_takes_its_name_over_once_the_old_one_is_gone(place):
    living, node = place.living, place.made.nodes[LIAR]
    living.wait_for_all(ALL)
    before = CONNECTED.search(node.log())[0]
    known = len(node.log())
    fault = Fault(living, "no-key-insecure")
    node.kill()
    node.start()
    line = living.wait_round(lambda line: took_part(line) == set(HONEST), fault.last)
    fault.goes_on()
    fault.mended()
    said = fault.wait_for(f"client {LIAR} is on another node now")
    fault.wait_back(ALL)
    assert CONNECTED.search(node.log()[known:])[0] != before
    assert fault.moved() == []
    refused = len(re.findall(f"name '{LIAR}' belongs to another node already", fault.log()))
    fault.record(
        f"round {line['round']} ended with the others; "
        + (f"the name was refused {refused} times; " if refused else "")
        + f"then, log: `{said.partition('client ')[2].split(':')[0]}`; same cluster"
    )


def test_eight_nodes_join_at_once(place):
    living = place.living
    living.wait_for_all(ALL)
    names = [f"late-{number}" for number in range(1, NEWCOMERS + 1)]
    fault = Fault(living, "many")
    for number, name in enumerate(names):
        config = {"client-name": name, "data-path": str(place.data[ALL[number % 3]])}
        place.made.add_node(name, config)
    living.wait_round(lambda line: True, fault.last)
    fault.goes_on()
    fault.mended()
    fault.wait_back([*ALL, *names])
    placed = {}
    for line in living.rounds():
        placed |= line.get("placed", {})
    moved = {name for line in fault.moved() for name in line["moved"]}
    assert moved == set(placed) == set(names)
    homes = newest_checkpoint(living.folder).state.assignments
    assert all(homes[name] == homes[ALL[number % 3]] for number, name in enumerate(names))
    rounds = sorted({line["round"] for line in living.rounds() if "placed" in line})
    fault.record(
        f"placed in rounds {', '.join(map(str, rounds))}, each in the cluster of the ward with the "
        "same data; all eleven trained together"
    )
