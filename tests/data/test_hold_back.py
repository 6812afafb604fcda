import numpy as np
import pytest

from feddag_flwr.data.classes import in_classes
from feddag_flwr.data.client import ClientData
from feddag_flwr.data.holdout import hold_back
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.settings import Settings, SettingsError

LABELS = np.array([0] * 10 + [1] * 3 + [2] * 2 + [3])
PART = LabelledSamples(np.arange(16.0).reshape(16, 1), LABELS)
NODE = {"partition-id": 2, "num-partitions": 20}


def test_a_share_of_each_class_is_held_back_but_never_all_of_it():
    train, held_back = hold_back(PART, 0.25, 1, client="ward-3")
    # 10 / 4 and 3 / 4 and 2 / 4 rounded half up; one of one would be all.
    assert np.bincount(held_back.labels, minlength=4).tolist() == [3, 1, 1, 0]
    both = np.sort(np.concatenate([train.samples, held_back.samples]).ravel())
    assert both.tolist() == list(range(16))


def test_it_is_drawn_by_seed_and_client():
    def drawn(seed, client):
        return hold_back(PART, 0.5, seed, client=client)[1].samples.ravel().tolist()

    assert drawn(1, "a") == drawn(1, "a")
    assert drawn(1, "a") != drawn(2, "a") != drawn(1, "b") != drawn(1, "a")


def test_nothing_is_held_back_of_nothing():
    assert hold_back(PART, 0.0, 1, client="a") == (PART, None)
    single = LabelledSamples(np.zeros((2, 1)), np.array([0, 1]))
    assert hold_back(single, 0.5, 1, client="a") == (single, None)


def test_a_client_of_a_scenario_holds_back():
    plain = load_client_data(Settings.from_run_config({}), NODE)
    data = load_client_data(Settings.from_run_config({"validation-share": 0.2}), NODE)
    assert plain.validation is None and data.validation is not None
    assert len(data.train) + len(data.validation) == len(plain.train)
    assert 0.1 < len(data.validation) / len(plain.train) < 0.3
    assert data.test.labels.tolist() == plain.test.labels.tolist()
    again = load_client_data(Settings.from_run_config({"validation-share": 0.2}), NODE, 7)
    np.testing.assert_array_equal(again.validation.samples, data.validation.samples)


def test_what_is_held_back_is_in_the_federations_classes():
    part = LabelledSamples(np.zeros((2, 1)), np.array([0, 1]))
    data = ClientData("a", part, part, ("dog", "cat"), None, part)
    assert in_classes(data, ("cat", "cow", "dog")).validation.labels.tolist() == [2, 0]


def test_checks_need_something_held_back():
    with pytest.raises(SettingsError, match=r"refine-every = 5: needs .*validation-share above 0"):
        Settings.from_run_config({"refine-every": 5})
