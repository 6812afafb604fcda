import functools
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from memory_grid import run_quickly

import feddag_flwr.algorithms
from feddag_flwr.algorithm_names import ALGORITHMS
from feddag_flwr.engine.idle_settings import tell_of_settings
from feddag_flwr.privacy.settings import TRAINED_PRIVATELY
from feddag_flwr.settings import CATALOGUE, Settings

pytestmark = pytest.mark.integration

GRAPH = {"teacher-clusters": "graph", "classifier-training": "joint"}


def told_of(caplog, changes):
    """Return the settings named as without effect, and where they would have one."""
    with caplog.at_level(logging.WARNING, logger="flwr"):
        tell_of_settings(Settings.from_run_config(changes))
    found = {}
    for record in caplog.records:
        names, middle, where = record.getMessage().partition(
            ": no effect on training here, only where "
        )
        assert middle, record.getMessage()
        found[names] = where
    return found


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({**GRAPH, "top-k": 1}, []),
        ({"top-k": 1, "alignment": False}, ["top-k, alignment"]),
        ({"teacher-clusters": "all", "agreement-rounds": 2}, ["agreement-rounds"]),
        ({"secondary": "own", "teacher-clusters": "all", "combine-teachers": "sum"},
         ["teacher-clusters, combine-teachers"]),
        ({"secondary": "own", "classifier-training": "joint", "secondary-start": "random"}, []),
        ({"secondary": "none", "classifier-training": "joint", "secondary-start": "random"},
         ["classifier-training, secondary-start"]),
        ({"encoders": "one", "initialisation": "random"}, []),
        ({"encoders": "one", "secondary": "none"}, ["secondary"]),
        ({"encoders": "one", "preset": "paper"}, []),
        # Which two encoders would refuse.
        ({"encoders": "one", "teacher-clusters": "graph", "agreement-rounds": 2},
         ["teacher-clusters", "agreement-rounds"]),
        ({"encoders": "one", "classifier-training": "joint", "secondary-start": "random"},
         ["classifier-training, secondary-start"]),
        ({"secondary": "none", "preset": "paper"}, []),  # the preset's values, not the user's
        ({"secondary": "none", "preset": "paper", "teacher-clusters": "all"}, ["teacher-clusters"]),
    ],
)  # fmt: skip
def test_settings_of_sharing_without_effect_are_told(caplog, changes, told):
    assert list(told_of(caplog, changes)) == told


WEIGHTS = {"weight-delta": 0.5, "weight-scope": "all"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fusion": "entropy", "fusion-steps": 5, "angle": "principal", **WEIGHTS}, []),
        # Evidence looks at class angles, but not at V of Eq. 6, which weighs them.
        ({"angle": "principal", **WEIGHTS}, ["weight-delta, weight-scope"]),
        ({"fusion": "data", "angle": "principal", **WEIGHTS}, []),
        ({"fusion-steps": 5}, ["fusion-steps"]),
        ({"fusion": "gradient", **WEIGHTS}, ["weight-delta, weight-scope"]),
        ({"fusion": "gradient", "angle": "principal"}, ["angle"]),
        # Sources are scored by angles, unless their alignment does not count.
        ({"fusion": "gradient", "angle": "principal", **GRAPH}, []),
        ({"fusion": "gradient", "angle": "principal", "alignment": False, **GRAPH}, ["angle"]),
        ({"fusion": "gradient", "preset": "paper"}, []),
        ({"fusion": "gradient", "false-positive-rate": 0.1}, ["false-positive-rate"]),
        # Checks on held-back data take their level from it.
        ({"fusion": "gradient", "false-positive-rate": 0.1, "refine-every": 3,
          "validation-share": 0.2}, []),
    ],
)  # fmt: skip
def test_settings_of_similarity_without_effect_are_told(caplog, changes, told):
    assert list(told_of(caplog, changes)) == told


def profiles_of(folder, **changes):
    """What clients are clustered by, and the chances at which the tests would have parted them."""
    of_one_kind = {"label_skew": 100.0, "client_groups": 1}
    strategy, _ = run_quickly(folder, num_rounds=0, warmup_epochs=1, **of_one_kind, **changes)
    residents = strategy.algorithm._profiles.arrays
    if residents.tree is None:
        return residents.fused
    return np.array([*residents.fused.flat, *chances_in(residents.tree.root)])


def chances_in(part):
    below = [chance for child in part.children for chance in chances_in(child)]
    return [part.level, *part.chances.values(), *below]


@functools.cache
def unchanged_profiles(shared_folder, fusion):
    """Those under settings which say nothing but the fusion; they need no warning."""
    return profiles_of(shared_folder / f"unchanged-{fusion}", fusion=fusion)


@pytest.mark.parametrize("fusion", ["evidence", "entropy", "data", "gradient"])
@pytest.mark.parametrize(
    "change",
    [
        {"angle": "principal"},
        {"weight_delta": 0.0},
        {"weight_scope": "all"},
        {"fusion_steps": 1},
        {"false_positive_rate": 0.02},
    ],
)
def test_what_is_told_does_not_change_the_proximity_and_what_is_not_told_does(
    tmp_path, shared_folder, caplog, fusion, change
):
    if fusion == "evidence" and "angle" in change:
        pytest.skip("six clients may have the same chances whatever the angle is")
    before = unchanged_profiles(shared_folder, fusion)
    assert "no effect on training here" not in caplog.text
    with caplog.at_level(logging.WARNING, logger="flwr"):
        found = profiles_of(tmp_path, fusion=fusion, **change)
    assert (before == found).all() == ("no effect on training here" in caplog.text)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"algorithm": "fedavg"}, {}),
        ({"algorithm": "fedavg", "preset": "paper"}, {"preset": "algorithm = 'feddag'"}),
        ({"algorithm": "ifca", "num-clusters": 3, "local-epochs": 2}, {}),
        ({"num-clusters": 3},
         {"num-clusters": "algorithm is one of cfl-gp, fedrc, fedsoft, ifca, pacfl"}),
        ({"algorithm": "pacfl", "linkage": "single", "pacfl-threshold": 3.0}, {}),
        ({"algorithm": "pacfl", "fusion": "data", "top-k": 1},
         {"fusion, top-k": "algorithm = 'feddag'"}),
        ({"algorithm": "cfl", "cfl-eps1": 0.5, "cfl-gp-period": 5, "fedprox-mu": 1.0},
         {"fedprox-mu": "algorithm = 'fedprox'", "cfl-gp-period": "algorithm = 'cfl-gp'"}),
        ({"per-fedavg-alpha": 0.1}, {"per-fedavg-alpha": "algorithm = 'per-fedavg'"}),
    ],
)  # fmt: skip
def test_settings_of_another_algorithm_are_told(caplog, changes, told):
    assert told_of(caplog, changes) == told


def read_in(modules):
    """Return the keys of the settings that files of the server read."""
    text = "".join(module.read_text() for module in modules)
    read = set(re.findall(r"settings\.\w+\.(\w+)", text))
    read |= {f"{kind} {name}" for kind, name in re.findall(r"\.own\((\w+)\)\.(\w+)", text)}
    return {
        key
        for key, setting in CATALOGUE.items()
        for name, field in setting.kind.model_fields.items()
        if field is setting.field and read & {name, f"{setting.kind.__name__} {name}"}
    }


def test_whose_settings_are_whose_is_what_the_algorithms_read():
    root = Path(feddag_flwr.algorithms.__file__).parent
    folders = {name: root / entry.server.split(".")[0] for name, entry in ALGORITHMS.items()}
    read = {name: read_in(folder.rglob("*.py")) for name, folder in folders.items()}
    common = {root / "algorithm.py", *(root.parent / "federation").glob("*.py")}
    common |= set((root.parent / "engine").glob("*.py")) - {root.parent / "engine/idle_settings.py"}
    # What makes up a recipe is read where a request is made, and obeyed by `descend` alone.
    obeying = set(ALGORITHMS) - {"per-fedavg"}
    assert "descend(" not in (root / "per_fedavg/local_training.py").read_text()
    for key, setting in CATALOGUE.items():
        if set(setting.readers) == obeying:
            assert setting.section == "local-training", key
        elif key == "view" or key.startswith("view-"):  # read where a profile is made
            assert setting.readers == ("feddag", "pacfl")
        elif setting.section == "privacy":  # read by the ledger; with other algorithms refused
            trained = key.startswith("training-")
            assert setting.readers == (TRAINED_PRIVATELY if trained else ("feddag",)), key
        elif setting.readers and key != "preset":  # which changes others of them
            assert {name for name in read if key in read[name]} == set(setting.readers), key
            assert key not in read_in(common), key


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"schedule": "19:1"}, None),
        ({"schedule": "20:1"}, 21),
        ({"schedule": "500:1", "secondary": "own"}, 501),
        ({"schedule": "500:1", "num-rounds": 0}, None),
        ({"schedule": "500:1", "algorithm": "fedavg"}, None),
    ],
)
def test_a_schedule_that_never_trains_the_secondary_encoder_is_told(caplog, changes, first):
    with caplog.at_level(logging.WARNING, logger="flwr"):
        tell_of_settings(Settings.from_run_config({"num-rounds": 20, **changes}))
    assert ("trains the secondary encoder" in caplog.text) == (first is not None)
    assert f"the first would be round {first}" in caplog.text or first is None


def test_each_algorithm_tells_of_settings_once_at_its_start(tmp_path, caplog):
    changes = {"num_rounds": 0, "preset": "paper", "teacher-clusters": "all"}
    with caplog.at_level(logging.INFO, logger="flwr"):
        run_quickly(tmp_path, name="paper", **changes)
    assert caplog.text.count("preset = 'paper': fusion = 'entropy', ") == 1
    assert "teacher-clusters = 'all'" in caplog.text
    assert "teacher-clusters = 'all' (given, not 'graph')" in caplog.text
    assert "no effect" not in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="flwr"):
        run_quickly(tmp_path, name="rival", algorithm="fedavg", **changes)
    assert "preset = 'paper'" not in caplog.text
    assert caplog.text.count("preset, teacher-clusters: no effect on training here") == 1
