"""check-data where profiles are private: an example of what is sent, and what is promised."""

import numpy as np
import pytest
from PIL import Image
from private_settings import PRIVATE
from test_check_data import archive, inspected, noise, one, settings_of
from torch import nn

from feddag_flwr.data_check.disclosure import class_vectors, disclosures
from feddag_flwr.launcher import main
from feddag_flwr.models.registry import ENCODERS
from feddag_flwr.privacy import budget
from feddag_flwr.privacy.noise import GaussianNoise
from feddag_flwr.privacy.training import PrivacyCosts, Spent

LABELS = [0] * 60 + [1] * 2 + [2] * 40
OWN = PRIVATE | {"class_names": "ape,bee,cat", "profile_epsilon": 8.0}


@pytest.fixture
def path(tmp_path):
    """Photographs of three kinds: bright above, bright below, and few of the second."""
    images = noise(len(LABELS)) // 4
    images[np.array(LABELS) == 0, :4] += 190
    images[np.array(LABELS) == 2, 4:] += 190
    more = {"test_images": noise(6, 9), "test_labels": np.array([0, 1, 2] * 2)}
    return archive(tmp_path / "a.npz", LABELS, images, **more)


def test_what_is_told_is_noisy_and_little(path, monkeypatch):
    # Noise of mean size: by chance it lifts two images to a class that is told.
    monkeypatch.setattr(GaussianNoise, "normal", lambda self, *shape: np.zeros(shape))
    found = inspected(path, **OWN)
    assert (found.faults, [each for each in found.warnings if "vectors" in each]) == ([], [])
    settings = settings_of(path, **OWN)
    vectors = class_vectors(found.data, settings)
    items = {item.what: item for item in disclosures(found.data, vectors, settings)}
    assert not items.keys() & {
        "samples", "moments of the pixels", "sparse update", "trained encoder",
    }  # fmt: skip
    assert items["count of each class"].when == "once a run, with noise"
    assert "bee" not in items["count of each class"].content  # two are too few to be told
    assert "projected images of 16 numbers" in items["principal vectors"].content
    assert items["promise"].content.startswith("epsilon 8 at delta 1e-05 covers")
    assert "it does not cover what training sends" in items["promise"].content


def test_vectors_are_put_back_to_images_of_which_few_show_nothing(path):
    ape, bee, cat = class_vectors(inspected(path, **OWN).data, settings_of(path, **OWN))
    assert len(bee.vectors) == 0
    assert bee.likeness == 0.0
    plain = class_vectors(inspected(path).data, settings_of(path))
    for each, without_noise in ((ape, plain[0]), (cat, plain[2])):
        assert each.vectors.shape[1] == 64
        np.testing.assert_allclose(np.linalg.norm(each.vectors, axis=1), 1, atol=1e-5)
        assert each.likeness < without_noise.likeness - 0.1
    assert plain[1].likeness > 0.9


def test_the_command_shows_the_noisy_picture(path, tmp_path, capsys):
    picture = tmp_path / "vectors.png"
    config = " ".join(
        f"{key.replace('_', '-')}={str(value).lower()}"
        if not isinstance(value, str)
        else f'{key.replace("_", "-")}="{value}"'
        for key, value in OWN.items()
    )
    assert main(["check-data", str(path), "--picture", str(picture), "--run-config", config]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "once a run," in told
    assert "promise" in told
    with Image.open(picture) as image:
        assert np.asarray(image.convert("L")).std() > 10


def test_what_cannot_be_promised_is_a_fault(tmp_path, monkeypatch):
    drawn = archive(tmp_path / "b.npz", [0, 1, 2] * 8)
    one(inspected(drawn, **OWN).faults, "has no test part", "profile-epsilon needs")
    monkeypatch.setattr(budget, "find_spec", lambda _: None)
    one(inspected(drawn, **OWN).faults, "needs dp-accounting", "feddag-flwr[privacy]")


def test_few_images_are_warned_of_and_noise_is_named_as_a_way_out(tmp_path):
    path = archive(tmp_path / "c.npz", [0] * 12 + [1] * 4)
    one(inspected(path).warnings, "'bee' (3)", "profile-epsilon above 0 would add noise")
    path = archive(tmp_path / "d.npz", [0] * 12 + [1] * 6 + [2] * 8)
    one(inspected(path).warnings, "5 training images at most", "often show: 'bee' (4);")
    assert not inspected(path, min_subspace_samples=6).warnings[1:]


# -- private training --------------------------------------------------------------------------

TRAINED = OWN | {"training_epsilon": 2.0, "num_rounds": 3, "local_epochs": 1}


def test_the_promise_is_of_profile_and_training_together(path):
    settings = settings_of(path, **TRAINED)
    found = inspected(path, **TRAINED)
    items = disclosures(found.data, class_vectors(found.data, settings), settings)
    (promised,) = [item for item in items if item.what == "promise"]
    costs = PrivacyCosts.of(settings)
    told = costs.epsilon(Spent(1, 1, 3 * 2 * 10))  # a profile, its number, two encoders a round
    assert told > 8.0
    assert promised.content.startswith(
        f"epsilon {told:.3g} at delta 1e-05 covers each client's profile and training"
    )
    by_what = {item.what: item.content for item in items}
    assert by_what["trained model"].endswith("trained with noise")
    assert by_what["trained second encoder"].endswith("trained with noise")
    assert by_what["number of training samples"].startswith("with noise")
    assert "noise" not in by_what["counts"]


def test_of_other_algorithms_the_promise_is_told(path, capsys):
    config = (
        'algorithm="fedavg" training-epsilon=2.0 standardise=false class-names="ape,bee,cat" '
        "num-rounds=2 local-steps=1"
    )
    assert main(["check-data", str(path), "--run-config", config]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "promise: epsilon 2 at delta 1e-05 covers each client's training, for one" in told


def test_an_encoder_that_mixes_samples_is_a_fault(path, monkeypatch):
    monkeypatch.setitem(ENCODERS, "small", Mixing)
    plain = {"algorithm": "fedavg", "standardise": False, "class_names": "ape,bee,cat"}
    plain |= {"model": "small", "normalisation_layer": "batch"}
    assert not inspected(path, **plain).faults
    one(inspected(path, **plain, training_epsilon=2.0).faults, "1 is batch norm", "frozen-layers")


class Mixing(nn.Sequential):
    feature_size = 4

    def __init__(self, shape):
        del shape
        super().__init__(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 4))
