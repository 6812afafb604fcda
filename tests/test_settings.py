import inspect
import re
import tomllib
from pathlib import Path

import pytest

from feddag_flwr.clustering import choose, complementarity, sweep
from feddag_flwr.settings import (
    PAPER,
    Settings,
    SettingsError,
    class_list,
    markdown_table,
    names,
)
from feddag_flwr.similarity.fusion import learn_fusion_weights
from feddag_flwr.similarity.subspace import class_angles, data_dissimilarity

ROOT = Path(__file__).resolve().parent.parent


def test_pyproject_mirrors_every_default():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    assert config == Settings().to_run_config()
    assert list(config) == names()
    types = {key: type(value) for key, value in config.items()}
    assert types == {key: type(value) for key, value in Settings().to_run_config().items()}


def test_every_setting_is_described_and_bounded():
    for name, field in Settings.model_fields.items():
        assert field.description, name
        if field.annotation in (int, float):
            assert field.metadata, f"{name} has no range"


def test_every_setting_is_read_somewhere():
    sources = [
        path.read_text()
        for folder in ("feddag_flwr", "client_app", "server_app")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "settings.py"
    ]
    unread = [
        name
        for name in Settings.model_fields
        if name != "preset"  # works on the other settings, has a test of its own
        and not any(re.search(rf"(settings|wanted)\.{name}\b", source) for source in sources)
    ]
    assert unread == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"lerning-rate": 0.1},
            "unknown setting 'lerning-rate' = 0.1; did you mean 'learning-rate'",
        ),
        ({"learning_rate": 0.1}, "unknown setting 'learning_rate' = 0.1"),
        ({"learning-rate": -1.0}, "setting learning-rate = -1.0: input should be greater than 0"),
        ({"learning-rate": float("nan")}, "setting learning-rate = nan"),
        ({"learning-rate": "fast"}, "setting learning-rate = 'fast'"),
        ({"num-clients": 1}, "setting num-clients = 1: input should be greater than or equal to 2"),
        ({"num-clients": True}, "setting num-clients = True"),
        ({"num-rounds": 2.5}, "setting num-rounds = 2.5"),
        ({"algorithm": "fedsgd"}, "setting algorithm = 'fedsgd': must be one of feddag, fedavg"),
        ({"schedule": "0:1"}, "setting schedule = '0:1'"),
        ({"threshold-step": 1e-7}, "setting threshold-step = 1e-07: must be 0 or at least 0.001"),
        ({"device": "tpu"}, "setting device = 'tpu'"),
        ({"run-name": "../x"}, "setting run-name = '../x': must be one folder name"),
        ({"model": "resnet"}, "setting model = 'resnet': must be auto, small, lenet, cnn3 or"),
        ({"source": "cifar10"}, "data-dir = '': source 'cifar10' needs a folder or file"),
        ({"scenario": "own"}, "source = 'digits': scenario 'own' takes"),
        (
            {"scenario": "own", "source": "npz", "concepts": 2},
            "concepts = 2: scenario 'own' takes clients' data as it is",
        ),
        ({"scenario": "own", "source": "npz", "train-share": 0.5}, "train-share = 0.5: scenario"),
        ({"scenario": "own", "source": "npz", "corruptions": "fog"}, "corruptions = 'fog': scen"),
        ({"scenario": "domains"}, "source = 'digits': scenario 'domains' takes 'image-folder'"),
        (
            {"scenario": "class-pairs", "client-groups": 46, "num-clients": 50},
            "client-groups = 46: scenario 'class-pairs' has 45 pairs of the 10 classes of source",
        ),
        (
            {"scenario": "class-pairs", "client-groups": 21},
            "client-groups = 21: at most num-clients = 20",
        ),
        ({"concepts": 4}, "setting concepts = 4: input should be less than or equal to 3"),
        ({"rotations": 3}, "setting rotations = 3: must be 1, 2 or 4"),
        ({"severity": 6}, "setting severity = 6: input should be less than or equal to 5"),
        (
            {"corruptions": "fog,fogg"},
            "setting corruptions = 'fog,fogg': no corruption 'fogg'; must be empty, all, or",
        ),
        ({"corruptions": "fog,"}, "setting corruptions = 'fog,': no corruption ''"),
        ({"corruptions": "fog, fog"}, "corruptions = 'fog, fog': must name each corruption once"),
        ({"test-share": 0.0}, "setting test-share = 0.0: input should be greater than 0"),
        ({"client-groups": 21}, "client-groups = 21: at most num-clients = 20"),
        ({"secondary": "none", "schedule": "5:1"}, "schedule = '5:1': secondary = 'none'"),
        (
            {"newcomer-share": 0.2, "newcomer-round": 101},
            "newcomer-round = 101: at most num-rounds = 100, for newcomer-share = 0.2",
        ),
        ({"drift-share": 0.2, "drift-round": 101}, "drift-round = 101: at most num-rounds = 100"),
        ({"newcomer-share": 0.02}, "newcomer-share = 0.02: 0 of num-clients = 20, must be one"),
        ({"newcomer-share": 0.95}, "newcomer-share = 0.95: 19 of num-clients = 20, must be one"),
        ({"drift-share": 0.05}, "drift-share = 0.05: 1 of num-clients = 20, must be two at least"),
        ({"class-names": "cat,,dog"}, "setting class-names = 'cat,,dog': must be different names"),
        ({"class-names": "cat, cat"}, "setting class-names = 'cat, cat': must be different names"),
        ({"secondary": "none", "diversity": 0.1}, "diversity = 0.1: needs a secondary encoder"),
    ],
)
def test_bad_settings_name_key_value_and_what_is_allowed(config, message):
    with pytest.raises(SettingsError) as caught:
        Settings.from_run_config(config)
    assert message in str(caught.value)


def test_all_faults_are_told_at_once():
    with pytest.raises(SettingsError) as caught:
        Settings.from_run_config({"seed": -1, "momentum": 1.0})
    assert len(str(caught.value).splitlines()) == 2


def test_whole_numbers_pass_for_real_ones():
    assert Settings.from_run_config({"learning-rate": 1}).learning_rate == 1.0


def test_the_settings_page_shows_every_setting():
    text = (ROOT / "docs/settings.md").read_text()
    begin, end = text.index("<!-- settings"), text.index("<!-- end of settings -->")
    table = text[begin:end].partition("\n")[2].strip()
    assert table == markdown_table()


@pytest.mark.parametrize(
    ("function", "defaults"),
    [
        (choose, {"split_persistence": "split_persistence"}),
        (
            sweep,
            {"gamma": "size_gamma", "tau": "size_tau", "lam": "size_lambda", "linkage": "linkage"},
        ),
        (learn_fusion_weights, {"steps": "fusion_steps"}),
        (data_dissimilarity, {"delta": "weight_delta", "scope": "weight_scope"}),
        (class_angles, {"angle": "angle"}),
        (complementarity, {"top_k": "top_k", "aligned": "alignment"}),
    ],
)
def test_the_mathematics_and_the_settings_agree_on_defaults(function, defaults):
    parameters = inspect.signature(function).parameters
    found = {name: parameters[name].default for name in defaults}
    assert found == {name: getattr(Settings(), setting) for name, setting in defaults.items()}


def test_the_paper_s_preset_takes_the_place_of_defaults_alone():
    paper = Settings.from_run_config({"preset": "paper"})
    assert (paper.fusion, paper.weight_scope) == ("entropy", "all")
    own = Settings.from_run_config({"preset": "own"}).to_run_config()
    changed = {k for k, v in paper.to_run_config().items() if v != own[k]}
    assert changed == {"preset", *PAPER}
    assert all(own[name] != value for name, value in PAPER.items())
    given = Settings.from_run_config({**own, "preset": "paper", "fusion": "data"})
    assert (given.fusion, given.weight_scope) == ("data", "all")
    again = Settings.from_run_config(paper.to_run_config())
    assert again == paper


def test_the_graph_of_sources_trains_the_classifier_whole():
    with pytest.raises(SettingsError, match=r"classifier-training = 'halves'.*must be 'joint'"):
        Settings.from_run_config({"sources": "graph"})
    for more in ({"classifier-training": "joint"}, {"secondary": "own"}, {"secondary": "none"}):
        assert Settings.from_run_config({"sources": "graph", **more}).sources == "graph"


def test_an_unknown_preset_is_refused():
    with pytest.raises(SettingsError, match="preset"):
        Settings.from_run_config({"preset": "best"})


def test_class_names_have_one_unicode_form():
    assert class_list("bag, cafe\u0301") == ("bag", "caf\u00e9")
    with pytest.raises(SettingsError, match=r"class-names .* must be different names"):
        Settings.from_run_config({"class-names": "caf\u00e9,cafe\u0301"})
