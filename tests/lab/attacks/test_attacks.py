"""Attacks find what is there, and nothing where there is nothing; the command end to end."""

import json

import numpy as np
import pytest

from feddag_flwr.settings import Settings
from feddag_lab.attacks import cli as attacks_cli
from feddag_lab.attacks.attack import AttackTrial
from feddag_lab.attacks.catalogue import ATTACKS
from feddag_lab.attacks.classes import SCENARIOS, _compared
from feddag_lab.attacks.defences import DEFENCES, FEWEST, NONE, PRIVATE, PRIVATE_PROFILE
from feddag_lab.attacks.findings import Findings
from feddag_lab.attacks.image_pool import ImagePool
from feddag_lab.attacks.inversion import Inversion, _as_pictures, _case
from feddag_lab.attacks.membership import (
    PROFILE,
    SPAN,
    SUM,
    Membership,
    from_models,
    from_profiles,
)
from feddag_lab.attacks.profile_images import ProfileImages
from feddag_lab.cli import main

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def pool():
    return ImagePool.load()


def run(attack, pool, defence=NONE, **case):
    return attack.run(AttackTrial(attack.name, "digits", defence, 1, case), pool)


def test_every_name_is_an_attack():
    assert tuple(ATTACKS) == attacks_cli.NAMES


@pytest.mark.parametrize("defence", DEFENCES)
def test_every_defence_is_settings(defence):
    Settings.from_run_config({**DEFENCES[defence], "class-names": "a, b"})


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_every_trial_is_one_of_its_own_and_has_a_known_defence(attack):
    for dataset in ("digits", "fashion-mnist"):
        trials = attack.trials(dataset, [1, 2], smallest=False)
        keys = [json.dumps(vars(trial), sort_keys=True) for trial in trials]
        assert len(set(keys)) == len(keys) > len(attack.trials(dataset, [1], smallest=True))
        assert {trial.defence for trial in trials} <= set(DEFENCES)


@pytest.mark.parametrize("images", [1, 3])
def test_up_to_as_many_images_as_vectors_are_shown_whole(pool, images):
    found = run(ProfileImages(), pool, images=images)
    assert found["shown"] == 1
    assert found["cosine"] == pytest.approx(1, abs=1e-5)
    assert found["ssim"] > 0.999
    assert found["ssim_others"] < 0.9


@pytest.mark.parametrize("defence", [FEWEST, PRIVATE_PROFILE])
def test_defences_of_the_profile_show_none_of_them(pool, defence):
    found = run(ProfileImages(), pool, defence, images=1)
    assert found["shown"] == 0
    assert found["ssim"] is None


def test_a_class_without_others_is_passed_over(pool):
    assert "skipped" in run(ProfileImages(), pool, images=100)


def test_the_image_before_a_linear_layer_is_found_to_the_pixel(pool):
    found = run(Inversion(), pool, **_case(1, model="first layer linear"))
    assert found["by"] == "layer"
    assert found["psnr"] > 70
    assert found["layer_error"] < 1e-4


def test_the_default_model_shows_an_image_after_ten_epochs(pool):
    found = run(Inversion(), pool, **_case(1, epochs=10))
    assert found["by"] == "matching"
    assert found["psnr"] > 35 > found["psnr_class_mean"]


def test_numbers_between_the_levels_of_eight_bits_are_no_pictures(pool):
    class Client:
        shape, scale = (1, 2, 2), ((0.5, 0.25),)

    pixels = np.array([[0, 51, 102, 255]]) / 255
    inputs = (pixels - 0.5) / 0.25
    np.testing.assert_allclose(_as_pictures(inputs, Client), pixels)
    assert _as_pictures(inputs + 0.4 / 255 / 0.25, Client) is None
    assert _as_pictures(inputs - 4, Client) is None
    assert _as_pictures(inputs[:, :3], Client) is None


# Ten clients with three images a class at most, as many as a class has vectors.
SMALL = {
    "num-clients": 10,
    "client-groups": 5,
    "train-share": 0.06,
    "min-class-samples": 1,
    "seed": 1,
}


def test_members_of_small_classes_are_told_from_a_profile(pool):
    found = from_profiles({**pool.config, **SMALL})
    assert found["auc"] > 0.9
    assert from_profiles({**pool.config, **SMALL, **DEFENCES[FEWEST]})["auc"] < 0.6


def test_a_model_that_was_not_trained_tells_no_members(pool):
    config = {**pool.config, **PRIVATE, "seed": 1, "num-rounds": 0}
    del config["standardise"]
    assert abs(from_models(config)["auc"] - 0.5) < 0.05


def test_an_update_tells_members_and_a_sum_fewer_of_them(pool):
    seen = {name: run(Membership(), pool, seen=name, images=67, rounds=1) for name in (SPAN, SUM)}
    assert seen[SPAN]["auc"] > seen[SUM]["auc"] + 0.1
    assert run(Membership(), pool, seen=SPAN, images=13, rounds=1)["auc"] > 0.99


def test_biases_that_rise_with_shares_tell_classes_and_random_ones_do_not():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(10, 0.1), size=40)
    shares[shares < 0.02] = 0
    told = _compared(shares - 0.1, shares, seed=1)
    assert told["auc"] == 1
    assert told["share_correlation"] == pytest.approx(1)
    nothing = _compared(rng.standard_normal(shares.shape), shares, seed=1)
    assert nothing["low"] < 0.5 < nothing["high"]
    assert "skipped" in _compared(shares, np.full((4, 10), 0.1), seed=1)


def test_classes_are_told_from_updates(pool):
    scenario = next(iter(SCENARIOS))
    found = run(ATTACKS["classes"], pool, PRIVATE_PROFILE, scenario=scenario, clients=10)
    assert found["auc"] > 0.95


def test_drawn_images_and_others_share_none(pool):
    drawn = pool.draw_of_each(2, np.random.default_rng(0))
    assert np.bincount(drawn.own.labels).tolist() == [2] * 10
    assert len(drawn.own) + len(drawn.others) == len(pool.images)
    assert drawn.others_of(3).shape[1] == 64


def test_the_command_measures_and_goes_on(tmp_path, capsys):
    command = ["attacks", "--smallest", "--seeds", "1", "--output", str(tmp_path)]
    assert main(command) == 0
    told = capsys.readouterr().out
    for attack in ATTACKS.values():
        assert f"## {attack.title}" in told
        assert (tmp_path / f"{attack.name}.jsonl").exists()
    lines = (tmp_path / "inversion.jsonl").read_text()
    assert (tmp_path / "report.md").read_text() in told

    (tmp_path / "inversion.jsonl").write_text(lines + '{"trial": {"broken')  # killed while writing
    assert main(command) == 0
    assert "inversion, seed 1" not in capsys.readouterr().out
    assert (tmp_path / "inversion.jsonl").read_text() == lines


def test_an_unknown_name_is_refused(tmp_path, capsys):
    assert main(["attacks", "membresip", "--output", str(tmp_path)]) == 2
    assert "profile-images, inversion, membership, classes" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_table_has_the_mean_and_the_range_over_seeds(tmp_path):
    findings, attack = Findings(tmp_path), ATTACKS["membership"]
    for seed, auc in ((1, 0.5), (2, 0.7)):
        trial = AttackTrial("membership", "digits", NONE, seed, {"seen": PROFILE})
        findings.add(trial, {"auc": auc, "accuracy": None}, 1.0)
    row = findings.report([attack]).splitlines()[4]
    assert "0.600 (0.500 to 0.700)" in row
    assert "| 2 |" in row
    assert list(findings.missing([trial])) == []
