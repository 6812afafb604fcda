"""Every algorithm: a run that is stopped in mid-round and resumed is the one that was not."""

import json
import shutil

import numpy as np
import pytest
from memory_grid import QUICK, MemoryGrid, failed

from feddag_flwr.algorithm_names import ALGORITHMS, algorithm_class
from feddag_flwr.checkpoints import AlgorithmState
from feddag_flwr.engine.runs import open_run
from feddag_flwr.records import REJECTION_ACTION
from feddag_flwr.run_folder import RunFolder, RunFolderInUseError
from feddag_flwr.settings import Settings, SettingsError
from feddag_flwr.simulation.grid import partitions

pytestmark = pytest.mark.integration

ROUNDS = 3
# Rounds before the one in which a run is stopped; what CFL and others remember takes longer.
LAST = {"cfl": 3, "cfl-gp": 3, "feddag": 3, "fedgwc": 3}
# Settings under which an algorithm has something to remember, and does something with it after.
OWN = {
    "cfl": {
        "cfl-quiet-rounds": 3, "cfl-thresholds": "absolute", "cfl-eps1": 100.0, "cfl-eps2": 0.0001,
        "participation": 0.5, "held-out-share": 0.0, "num-rounds": 6
    },
    "cfl-gp": {
        "cfl-gp-period": 2, "cfl-gp-last-round": 6, "num-clusters": 3, "num-rounds": 6
    },
    # Clusters part in round 4, the run is stopped in the middle of the window that ends there.
    "feddag": {
        "agreement-rounds": 2, "agreement-threshold": 1.0, "num-clients": 12, "participation": 1.0,
        "num-rounds": 5
    },
    "fedgwc": {
        "fedgwc-epsilon": 1e6, "batch-size": 64, "participation": 0.5, "num-clients": 10,
        "num-rounds": 5
    },
    "fedsoft": {"num-clusters": 3},
    "fedrc": {"num-clusters": 3},
    "ifca": {"num-clusters": 3},
    "pacfl": {"num-clusters": 3},
}  # fmt: skip


class Killed(BaseException):
    """The process is gone."""


class DyingGrid(MemoryGrid):
    """Ends the run after some messages of a round."""

    def __init__(self, settings, *, last_round, messages=2, **options):
        super().__init__(settings, **options)
        self.last_round = last_round
        self.messages = messages

    def answer(self, message):
        if message.metadata.message_type == REJECTION_ACTION:
            return None
        if int(message.metadata.group_id) > self.last_round:
            self.messages -= 1
            if self.messages < 0:
                raise Killed
        return super().answer(message)


def settings_of(tmp_path, algorithm, **changes):
    own = {"num-clients": 8, "num-rounds": ROUNDS, "held-out-share": 0.25, "algorithm": algorithm}
    given = QUICK | own | OWN.get(algorithm, {}) | {"run-dir": str(tmp_path), **changes}
    return Settings.from_run_config(given)


def run(settings, *, last_round=99, seed=0, other_ids=False, **options):
    strategy = open_run(settings)
    grid = DyingGrid(settings, last_round=last_round, seed=seed, **options)
    if other_ids:
        grid.contexts = {999 - node: context for node, context in grid.contexts.items()}
        grid.connected = set(grid.contexts)
    strategy.start(grid)
    return strategy.folder.path


def contents(folder):
    """The files of a run that must be equal, by path; the last checkpoint's with all of it."""
    last = max((folder / "checkpoints").iterdir())
    paths = [*folder.glob("*.json*"), *last.rglob("*.*")]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in paths
        if path.name not in {"settings.json", "seconds.jsonl"}
    }


def rolled(saved):
    """A state whose arrays hold their values in other places."""
    return {
        group: {name: np.roll(values, 1 + values.size // 2) for name, values in its.items()}
        for group, its in saved.arrays.items()
    }


def dealt(saved):
    """A state whose arrays, all of one shape, belong to other clients."""
    places = [(group, name) for group, its in saved.arrays.items() for name in its]
    others = places[1:] + places[:1]
    arrays = {group: dict(its) for group, its in saved.arrays.items()}
    for (group, name), (other, its) in zip(places, others, strict=True):
        arrays[group][name] = saved.arrays[other][its]
    return arrays


SPOILED = {
    "feddag": rolled, "ditto": rolled, "cfl": dealt, "cfl-gp": dealt, "fedsoft": rolled,
    "fedrc": rolled, "fedgwc": rolled, "pacfl": dealt, "oracle": rolled,
}  # fmt: skip


def load_spoiled(algorithm):
    """`load_state_dict` of an algorithm that is given another state than the run's."""
    load = algorithm_class(algorithm).load_state_dict

    def spoiled(self, saved):
        notes = {
            key: value[::-1] if key == "groups" else value for key, value in saved.notes.items()
        }
        models = dict(zip(saved.models, reversed(saved.models.values()), strict=True))
        kept = models if algorithm == "ditto" else saved.models
        load(self, AlgorithmState(SPOILED[algorithm](saved), notes, kept))

    return spoiled


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(tmp_path, algorithm, monkeypatch):
    settings = settings_of(tmp_path, algorithm, **{"run-name": "whole"})
    last = LAST.get(algorithm, 1)
    whole = run(settings)
    with pytest.raises(Killed):
        run(settings_of(tmp_path, algorithm, **{"run-name": "stopped"}), last_round=last, seed=1)
    folder, other = tmp_path / "stopped", tmp_path / "other"
    assert not (folder / "summary.json").exists()
    shutil.copytree(folder, other)

    assert run(settings_of(tmp_path, algorithm, resume=str(folder)), seed=2) == folder
    expected, found = contents(whole), contents(folder)
    manifest = f"checkpoints/round-{settings.run.num_rounds:06d}/manifest.json"
    assert {"metrics.jsonl", "summary.json", manifest} <= set(expected)
    assert found.keys() == expected.keys()
    for path, content in expected.items():
        assert found[path] == content, path
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == list(range(settings.run.num_rounds + 1))

    if algorithm in SPOILED:  # what it remembers matters in this run, else it would show nothing
        monkeypatch.setattr(algorithm_class(algorithm), "load_state_dict", load_spoiled(algorithm))
        run(settings_of(tmp_path, algorithm, resume=str(other)), seed=2)
        assert (other / "metrics.jsonl").read_bytes() != expected["metrics.jsonl"]


@pytest.mark.parametrize("last", [3, 4])
@pytest.mark.parametrize("algorithm", ["feddag", "fedavg", "local"])
def test_a_resumed_comparison_is_the_uninterrupted_one_to_the_bit(tmp_path, algorithm, last):
    """Stopped with training owed to its models (after round 3), and between its turns (4)."""
    own = {"compare": True, "compare-every": 2, "num-rounds": 5, "agreement-rounds": 8}
    own |= {"num-clients": 8, "participation": 0.4}
    whole = run(settings_of(tmp_path, algorithm, **own, **{"run-name": "whole"}))
    with pytest.raises(Killed):
        stopped = settings_of(tmp_path, algorithm, **own, **{"run-name": "stopped"})
        run(stopped, last_round=last, seed=1)
    folder = tmp_path / "stopped"
    run(settings_of(tmp_path, algorithm, **own, resume=str(folder)), seed=2)
    expected, found = contents(whole), contents(folder)
    assert any("comparison.one-model" in path for path in expected)
    assert found.keys() == expected.keys()
    for path, content in expected.items():
        assert found[path] == content, path
    # The last turn is forgotten after it: on from here, the run is one that did not end here.
    notes = json.loads(next(path for path in folder.glob("checkpoints/*5/notes.json")).read_text())
    assert notes["run"]["comparison"]["owed"]


def test_a_resume_reads_nothing_while_the_run_lives_and_leaves_it_free_when_refused(
    tmp_path, monkeypatch
):
    folder = run(settings_of(tmp_path, "fedavg", **{"run-name": "run"}))
    resumed = settings_of(tmp_path, "fedavg", resume=str(folder))
    before = contents(folder)
    holder = RunFolder.of_stopped_run(resumed)
    with monkeypatch.context() as patch:
        patch.setattr("feddag_flwr.engine.runs.newest_checkpoint", None)  # not to be called
        with pytest.raises(RunFolderInUseError):
            open_run(resumed)
    holder.release()
    with pytest.raises(SettingsError, match="seed"):
        open_run(settings_of(tmp_path, "fedavg", resume=str(folder), seed=2))
    assert contents(folder) == before
    RunFolder.of_stopped_run(resumed).release()


LIVING = {
    "num-clients": 9, "held-out-share": 0.0, "newcomer-share": 0.34, "newcomer-round": 2,
    "participation": 1.0, "secondary": "none", "warmup-epochs": 1, "num-rounds": 5,
}  # fmt: skip
DRIFTING = LIVING | {"newcomer-share": 0.0, "drift-share": 0.67, "drift-round": 2, "num-rounds": 4}
SOON = LIVING | {"num-rounds": 3}


def fail_newcomers_twice(partition, action, reply):
    late = action == "train.profile" and int(reply.metadata.group_id) in {2, 3}
    return failed(reply) if late else reply


@pytest.mark.parametrize(
    ("changes", "stop", "tamper", "strangers"),
    [
        pytest.param(SOON, 0, None, 0, id="newcomers-not-asked-yet"),
        pytest.param(SOON, 1, None, 0, id="newcomers-to-come"),
        pytest.param(LIVING, 3, fail_newcomers_twice, 0, id="newcomers-that-pause"),
        pytest.param(DRIFTING, 2, None, 0, id="drift-found"),
        pytest.param(LIVING, 3, None, 1, id="a-stranger-that-pauses"),
    ],
)
def test_a_resumed_federation_that_lives_goes_on_the_same(
    tmp_path, changes, stop, tamper, strangers
):
    def settings(**own):
        return settings_of(tmp_path, "feddag", **changes, **own)

    count = settings().run.num_clients
    strange = [{"partition-id": 3, "num-partitions": count}] * strangers
    options = {"tamper": tamper, "node_configs": [*partitions(settings(), count), *strange]}
    whole = run(settings(**{"run-name": "whole"}), **options)
    with pytest.raises(Killed):
        run(settings(**{"run-name": "stopped"}), last_round=stop, seed=1, **options)
    folder = tmp_path / "stopped"
    run(settings(resume=str(folder)), seed=2, **options)
    expected, found = contents(whole), contents(folder)
    assert found.keys() == expected.keys()
    for path, content in expected.items():
        assert found[path] == content, path


def test_a_client_that_pauses_does_so_on_another_node_too(tmp_path):
    """Node ids of a simulation through Flower are others in each run."""
    tamper = fail_newcomers_twice
    whole = run(settings_of(tmp_path, "feddag", **LIVING, **{"run-name": "whole"}), tamper=tamper)
    with pytest.raises(Killed):
        stopped = settings_of(tmp_path, "feddag", **LIVING, **{"run-name": "stopped"})
        run(stopped, last_round=3, tamper=tamper)
    resumed = settings_of(tmp_path, "feddag", **LIVING, resume=str(tmp_path / "stopped"))
    folder = run(resumed, tamper=tamper, other_ids=True)
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
