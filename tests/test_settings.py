import inspect
import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from feddag_flwr.algorithm_names import ALGORITHMS
from feddag_flwr.algorithms.cfl.settings import CFLSettings
from feddag_flwr.algorithms.feddag.settings import SharingSettings
from feddag_flwr.algorithms.fedsoft.settings import FedSoftSettings
from feddag_flwr.clustering.complementarity import complementarity
from feddag_flwr.clustering.selection import choose
from feddag_flwr.clustering.threshold import sweep
from feddag_flwr.data.settings import class_list
from feddag_flwr.registries import MODALITIES
from feddag_flwr.sections import Above
from feddag_flwr.settings import CATALOGUE, Settings, SettingsError, defaults, keys
from feddag_flwr.settings.catalogue import SECTIONS
from feddag_flwr.settings.reference import markdown
from feddag_flwr.similarity.fusion import learn_fusion_weights
from feddag_flwr.similarity.subspace import class_angles, data_dissimilarity

ROOT = Path(__file__).resolve().parent.parent


def test_pyproject_mirrors_every_default():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    assert config == defaults()
    assert list(config) == list(keys())
    types = {key: type(value) for key, value in config.items()}
    assert types == {key: type(value) for key, value in Settings().to_run_config().items()}


def test_the_mirror_is_a_run_of_all_defaults():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    assert Settings.from_run_config(config) == Settings.from_run_config({}) == Settings()


def test_every_setting_is_described_and_bounded():
    for key, each in CATALOGUE.items():
        assert each.field.description, key
        if each.field.annotation in (int, float):
            assert each.field.metadata, f"{key} has no range"


def test_no_key_is_in_two_sections():
    fields = [field.alias for kind in SECTIONS.values() for field in kind.model_fields.values()]
    assert len(fields) == len(set(fields)) == len(CATALOGUE)


def test_about_thirty_settings_are_not_advanced():
    assert 25 <= len(keys(lambda facts: not facts.advanced)) <= 37


def test_readers_and_conditions_name_what_there_is():
    for key, each in CATALOGUE.items():
        assert set(each.readers) <= set(ALGORITHMS), key
        for table in each.facts.effect:
            for other, values in table.items():
                annotation = CATALOGUE[other].field.annotation
                if isinstance(values, Above):
                    assert annotation in (int, float) and CATALOGUE[other].default not in values, (
                        key
                    )
                    continue
                choices = (False, True) if annotation is bool else get_args(annotation)
                choices = CATALOGUE[other].facts.choices or choices
                choices = MODALITIES.names if other == "modality" else choices
                assert set(values) < set(choices), key


def test_every_setting_is_read_somewhere():
    sources = [
        path.read_text()
        for folder in ("feddag_flwr", "client_app", "server_app")
        for path in (ROOT / folder).rglob("*.py")
        if "settings" not in path.name and path.parent.name != "settings"
    ]
    # `settings.run.seed`, or in a function that has its section, `training.seed`.
    unread = [
        name
        for kind in SECTIONS.values()
        for name in kind.model_fields
        if name != "preset"  # works on the other settings, has a test of its own
        and not any(re.search(rf"[\w)]\.{name}\b", source) for source in sources)
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
        (
            {"model": "resnet"},
            "setting model = 'resnet': must be auto, small, lenet, cnn3, mlp, linear, resnet18",
        ),
        ({"dataset": "cifar10"}, "data-dir = '': dataset 'cifar10' needs a folder or file"),
        ({"scenario": "own"}, "dataset = 'digits': scenario 'own' takes"),
        (
            {"scenario": "own", "dataset": "npz", "concepts": 2},
            "concepts = 2: scenario 'own' takes clients' data as it is",
        ),
        ({"scenario": "own", "dataset": "npz", "train-share": 0.5}, "train-share = 0.5: scenario"),
        ({"scenario": "own", "dataset": "npz", "corruptions": "fog"}, "corruptions = 'fog': scen"),
        ({"scenario": "domains"}, "dataset = 'digits': scenario 'domains' takes 'image-folder'"),
        (
            {"scenario": "class-pairs", "client-groups": 46, "num-clients": 50},
            "client-groups = 46: scenario 'class-pairs' has 45 pairs of the 10 classes of dataset",
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
        ({"encoders": "one", "schedule": "5:1"}, "schedule = '5:1': encoders = 'one' has no such"),
        ({"encoders": "one", "diversity": 0.1}, "diversity = 0.1: needs a secondary encoder"),
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
        ({"min-clients": 21}, "setting min-clients = 21: at most num-clients = 20"),
        ({"cfl-eps1": 0.0}, "setting cfl-eps1 = 0.0: input should be greater than 0"),
        ({"eps1": 0.5}, "unknown setting 'eps1' = 0.5"),
        (
            {"fedsoft-lambda": -1.0},
            "setting fedsoft-lambda = -1.0: input should be greater than or",
        ),
        ({"fusion": "best"}, "'evidence', 'entropy', 'data' or 'gradient', or 'preset'"),
        (
            {"linkage": "preset"},
            "setting linkage = 'preset': input should be 'average', 'complete'",
        ),
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


def test_faults_of_several_sections_and_old_names_are_told_together():
    with pytest.raises(SettingsError) as caught:
        Settings.from_run_config({"seed": -1, "momentum": 1.0, "source": "npz", "sed": 2})
    beginnings = [line.partition(" =")[0] for line in str(caught.value).splitlines()]
    assert beginnings == [
        "setting source", "unknown setting 'sed'", "setting seed", "setting momentum",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "modality", "words"),
    [
        ("lenet", "embedding", "is for images, with modality = 'embedding' must be auto, mlp, lin"),
        ("torchvision.models:vgg11", "embedding", "is for images, with modality = 'embedding'"),
        ("mlp", "series", "is for rows and embeddings, with modality = 'series' must be auto or"),
    ],
)
def test_a_model_of_another_kind_of_data_is_refused(model, modality, words):
    config = {"dataset": "npz", "scenario": "own", "data-dir": "x"}
    with pytest.raises(SettingsError, match=f"model = '{model}': {words}"):
        Settings.from_run_config({**config, "model": model, "modality": modality})
    Settings.from_run_config({**config, "model": "auto", "modality": modality})
    Settings.from_run_config({**config, "model": model, "modality": "own_kind:Kind"})


def test_contradictions_of_several_sections_are_told_at_once():
    with pytest.raises(SettingsError) as caught:
        Settings.from_run_config({"client-groups": 30, "min-clients": 40})
    assert str(caught.value).splitlines() == [
        "setting client-groups = 30: at most num-clients = 20",
        "setting min-clients = 40: at most num-clients = 20",
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("source", "dataset"), ("sources", "teacher-clusters"),
        ("combine-sources", "combine-teachers"), ("wave-size", "max-in-flight"),
        ("regroup-share", "recluster-share"), ("unseen-share", "held-out-share"),
        ("fine-tune-epochs", "personalisation-epochs"),
    ],
)  # fmt: skip
def test_an_old_key_is_told_the_new_one(old, new):
    assert new in CATALOGUE
    with pytest.raises(SettingsError) as caught:
        Settings.from_run_config({old: 1})
    assert str(caught.value) == f"setting {old} = 1: the setting is called {new!r} now"


def test_an_old_value_is_told_the_new_one():
    with pytest.raises(SettingsError) as caught:
        Settings.from_run_config({"classifier-training": "halves"})
    assert str(caught.value) == (
        "setting classifier-training = 'halves': the value is called 'separate' now"
    )


def test_whole_numbers_pass_for_real_ones():
    assert Settings.from_run_config({"learning-rate": 1}).training.learning_rate == 1.0


def test_sections_are_immutable():
    settings = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.run.seed = 2
    with pytest.raises(AttributeError):
        settings.run = None


def test_an_algorithms_own_settings_have_its_prefix():
    settings = Settings.from_run_config({"cfl-eps1": 0.7, "fedsoft-lambda": 0.3})
    assert settings.own(CFLSettings).eps1 == 0.7
    assert settings.own(FedSoftSettings).lambda_ == 0.3
    with pytest.raises(KeyError, match="SharingSettings"):
        settings.own(SharingSettings)


def test_settings_are_changed_by_key_and_validated_anew():
    settings = Settings().changed({"seed": 7})
    assert (settings.run.seed, settings.changed({"seed": 1})) == (7, Settings())
    with pytest.raises(SettingsError, match="setting seed = -1"):
        settings.changed({"seed": -1})


def test_the_reference_page_is_made_from_the_sections():
    assert (ROOT / "docs" / "settings.md").read_text().rstrip() == markdown().rstrip()


def test_the_reference_page_has_advanced_settings_after_basic_ones():
    run = markdown().partition("## `run`")[2].partition("## `data`")[0]
    basic, _, advanced = run.partition("Advanced:")
    assert "| `num-rounds` | `100` | ≥ 0, ≤ 100000 | T |" in basic
    assert '| `transport` | `"float32"` | `float32`, `float16`, `bfloat16` |' in advanced
    assert "`transport`" not in basic
    page = markdown()
    assert set(re.findall(r"^\| `([\w-]+)`", page, re.M)) == set(CATALOGUE)
    assert "Presets: own `evidence`, paper `entropy`." in page
    shared = "encoders = 'two' and secondary = 'shared'"
    assert f"Only where {shared} and teacher-clusters = 'graph'." in page


@pytest.mark.parametrize(
    ("function", "named"),
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
def test_the_mathematics_and_the_settings_agree_on_defaults(function, named):
    parameters = inspect.signature(function).parameters
    found = {name: parameters[name].default for name in named}
    values = Settings().to_run_config()
    assert found == {name: values[setting.replace("_", "-")] for name, setting in named.items()}


PRESETS = {
    "own": {
        "fusion": "evidence", "weight-scope": "shared", "teacher-clusters": "agreeing",
        "combine-teachers": "mean", "classifier-training": "separate", "secondary-start": "warm",
    },
    "paper": {
        "fusion": "entropy", "weight-scope": "all", "teacher-clusters": "graph",
        "combine-teachers": "sum", "classifier-training": "joint", "secondary-start": "random",
    },
}  # fmt: skip


@pytest.mark.parametrize("preset", ["own", "paper"])
def test_a_preset_fills_in_what_is_not_given(preset):
    own = Settings().to_run_config()
    filled = Settings.from_run_config({**defaults(), "preset": preset}).to_run_config()
    assert filled == own | PRESETS[preset] | {"preset": preset}
    assert {key for key, value in defaults().items() if value == "preset"} == set(PRESETS["own"])


@pytest.mark.parametrize("preset", ["own", "paper"])
@pytest.mark.parametrize("key", list(PRESETS["own"]))
@pytest.mark.parametrize("other", ["own", "paper"])
def test_what_is_given_explicitly_wins_over_the_preset(preset, key, other):
    value = PRESETS[other][key]
    # The graph takes a joint classifier only, so that this is given, too.
    config = {"preset": preset, "classifier-training": "joint"} | {key: value}
    if value == "separate":
        config["teacher-clusters"] = "all"
    given = Settings.from_run_config({**defaults(), **config}).to_run_config()
    assert given == Settings().to_run_config() | PRESETS[preset] | config


def test_explicit_values_equal_to_our_defaults_survive_the_papers_preset():
    config = {**PRESETS["own"], "preset": "paper"}
    assert Settings.from_run_config(config).to_run_config() == Settings().to_run_config() | config


def test_resolved_settings_are_the_same_settings():
    paper = Settings.from_run_config({"preset": "paper"})
    assert Settings.from_run_config(paper.to_run_config()) == paper


def test_the_graph_of_teachers_trains_the_classifier_whole():
    with pytest.raises(SettingsError, match=r"classifier-training = 'separate'.*must be 'joint'"):
        Settings.from_run_config({"teacher-clusters": "graph"})
    for more in ({"classifier-training": "joint"}, {"secondary": "own"}, {"secondary": "none"}):
        settings = Settings.from_run_config({"teacher-clusters": "graph", **more})
        assert settings.sharing.teacher_clusters == "graph"


def test_an_unknown_preset_is_refused():
    with pytest.raises(SettingsError, match="preset"):
        Settings.from_run_config({"preset": "best"})


def test_class_names_have_one_unicode_form():
    assert class_list("bag, cafe\u0301") == ("bag", "caf\u00e9")
    with pytest.raises(SettingsError, match=r"class-names .* must be different names"):
        Settings.from_run_config({"class-names": "caf\u00e9,cafe\u0301"})
