"""Suites: what a YAML file says, and that every fault is told with its line."""

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feddag_flwr.algorithm_names import ALGORITHMS
from feddag_lab.experiments.suite import find_suite, load_suite, shipped_suites, slug
from feddag_lab.experiments.trials import choose_trials, plan_trials
from feddag_lab.experiments.yaml_marks import SuiteError, parse_assignment

GOOD = """\
description: a small one
settings: {num-clients: 8, num-rounds: 3, momentum: 0}
algorithms:
  FedDAG: {}
  FedDAG*: {secondary: none, num-rounds: 5}
  FedAvg: {algorithm: fedavg}
scenarios:
  "I 20 %":
    settings: {label-skew: 20, num-rounds: 4, learning-rate: 1e-3}
    published: table_4/label_skew_20/fmnist
    without: [FedAvg]
  III: {settings: {scenario: lda}}
seeds: [2, 1]
"""


def load(tmp_path, text, name="made-up.yaml"):
    path = tmp_path / name
    path.write_text(textwrap.dedent(text))
    return load_suite(path)


def plan(tmp_path, text, **overrides):
    return plan_trials(load(tmp_path, text), overrides, tmp_path / "out")


def faults(tmp_path, text, **overrides):
    """What is wrong, without the folder."""
    with pytest.raises(SuiteError) as raised:
        plan(tmp_path, text, **overrides)
    return str(raised.value).replace(f"{tmp_path}/", "").splitlines()


def change(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


# --- good suites ---


def test_trials_come_seed_by_seed_then_scenario_by_scenario(tmp_path):
    trials = plan(tmp_path, GOOD)
    assert [(trial.seed, trial.scenario, trial.algorithm) for trial in trials] == [
        (seed, scenario, algorithm)
        for seed in (2, 1)
        for scenario in ("I 20 %", "III")
        for algorithm in ("FedDAG", "FedDAG*", "FedAvg")
        if (scenario, algorithm) != ("I 20 %", "FedAvg")
    ]
    assert load(tmp_path, GOOD).num_trials == len(trials) == 10
    assert [trial.slug for trial in trials[:2]] == [
        "i-20--feddag--seed-2",
        "i-20--feddag-star--seed-2",
    ]
    assert len({trial.slug for trial in trials}) == 10
    assert str(trials[1]) == "FedDAG* / I 20 % / seed 2"
    assert all(trial.settings.run.seed == trial.seed for trial in trials)
    assert {trial.settings.run.run_dir for trial in trials} == {str(tmp_path / "out" / "trials")}


def test_algorithm_wins_over_scenario_over_suite_and_the_command_line_over_all(tmp_path):
    trials = {str(trial): trial.settings for trial in plan(tmp_path, GOOD)}
    rounds = {
        name: settings.run.num_rounds for name, settings in trials.items() if "seed 1" in name
    }
    assert rounds == {
        "FedDAG / I 20 % / seed 1": 4,
        "FedDAG* / I 20 % / seed 1": 5,
        "FedDAG / III / seed 1": 3,
        "FedDAG* / III / seed 1": 5,
        "FedAvg / III / seed 1": 3,
    }
    settings = trials["FedDAG / I 20 % / seed 1"]
    assert (
        settings.data.label_skew,
        settings.training.momentum,
        settings.training.learning_rate,
    ) == (20.0, 0.0, 0.001)
    assert trials["FedDAG / III / seed 1"].training.learning_rate == 0.01
    overridden = plan(tmp_path, GOOD, **{"num-rounds": 9, "top-k": 1})
    assert {
        (trial.settings.run.num_rounds, trial.settings.sharing.top_k) for trial in overridden
    } == {(9, 1)}


def test_the_suite_is_written_as_it_was_resolved(tmp_path):
    found = load(tmp_path, GOOD).to_json({"num-rounds": 9})
    assert found["name"] == "made-up"
    assert found["description"] == "a small one"
    assert found["algorithms"]["FedDAG*"] == {"secondary": "none", "num-rounds": 5}
    assert found["scenarios"]["I 20 %"] == {
        "settings": {"label-skew": 20, "num-rounds": 4, "learning-rate": 0.001},
        "published": "table_4/label_skew_20/fmnist",
        "without": ["FedAvg"],
    }
    assert found["scenarios"]["III"]["published"] is None
    assert found["seeds"] == [2, 1]
    assert found["command-line"] == {"num-rounds": 9}


@pytest.mark.parametrize(
    ("patterns", "count"),
    [
        ([], 10),
        (["FedDAG"], 4),
        (["FedDAG*"], 4),
        (["FedD*"], 8),
        (["*/*/1"], 5),
        (["feddag-star/i-20/2"], 1),
        (["FedAvg//2", "FedDAG/I 20 %/2"], 2),
        (["*/III", "FedAvg"], 6),
    ],
)
def test_patterns_choose_trials_and_a_star_in_a_name_is_itself(tmp_path, patterns, count):
    trials = plan(tmp_path, GOOD)
    chosen = choose_trials(trials, patterns)
    assert len(chosen) == count
    assert chosen == [trial for trial in trials if trial in chosen]


@pytest.mark.parametrize(
    "pattern", ["FedProx", "FedDAG/IV", "FedDAG/III/7", "a/b/c/d", "", " ", "//"]
)
def test_a_pattern_that_chooses_nothing_is_a_mistake(tmp_path, pattern):
    with pytest.raises(SuiteError, match="--only"):
        choose_trials(plan(tmp_path, GOOD), [pattern])


@given(st.text(min_size=1))
def test_slugs_are_plain_file_names(name):
    assert set(slug(name)) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    assert slug(slug(name)) == slug(name)
    assert not slug(name).startswith((".", "-"))


def test_slugs_keep_variants_apart():
    assert slug("FedDAG*-Data") == "feddag-star-data"
    assert slug("I 30 %, alpha' 0.25") == "i-30-alpha-0.25"
    assert slug("Größe") == "grosse" or slug("Größe") == "groe"


# --- faults ---


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("description:", "descriptoin:",
         "1: suite: unknown key 'descriptoin'; did you mean 'description'?"),
        ("seeds: [2, 1]", "", "1: suite: 'seeds' is missing"),
        ("seeds: [2, 1]", "seeds: []", "13: seeds: the list is empty"),
        ("seeds: [2, 1]", "seeds: 3", "13: seeds: expected a list, such as [1, 2, 3]"),
        ("[2, 1]", "[2, x]", "13: seeds: 'x' is no integer"),
        ("[2, 1]", "[2, true]", "13: seeds: True is no integer"),
        ("[2, 1]", "[2, 1, 2]", "13: seeds: 2 was given before"),
        ("[2, 1]", "[-2]", "13: setting seed = -2: input should be greater than or equal to 0"),
        ("momentum: 0", "momentum: 1",
         "2: setting momentum = 1: input should be less than 1"),
        ("momentum: 0", "momentun: 0",
         "2: unknown setting 'momentun' = 0; did you mean 'momentum'?"),
        ("momentum: 0", "momentum: [0]",
         "2: settings: momentum: expected a number, text, true or false"),
        ("momentum: 0", "momentum:",
         "2: settings: momentum: expected a number, text, true or false"),
        ("momentum: 0", "momentum: 0, num-rounds: 4",
         "2: 'num-rounds' was given before, at made-up.yaml:2"),
        ("momentum: 0", "seed: 4", "2: settings: 'seed' is decided by the runner for each trial"),
        ("{secondary: none,", "{secondary: some,",
         "5: setting secondary = 'some': input should be 'shared', 'own' or 'none'"),
        ("algorithm: fedavg", "algorithm: fedavgg", "6: setting algorithm = 'fedavgg': must"),
        ("  FedAvg: {", "  FedDAG: {",
         "6: 'FedDAG' was given before, at made-up.yaml:4"),
        ("  FedAvg: {", "  FEDDAG: {", "6: algorithms: 'FEDDAG' is too like 'FedDAG'"),
        ("  FedAvg: {", "  Fed/Avg: {",
         "6: algorithms: 'Fed/Avg' must hold letters or digits, and no '/'"),
        ("  FedAvg: {", "  7: {", "6: the key 7 must be text (quote it)"),
        ("  FedAvg: {algorithm: fedavg}", "  FedAvg: fedavg",
         "6: algorithm 'FedAvg': expected keys with values"),
        ("label-skew: 20,", "client-groups: 9,",
         "9: setting client-groups = 9: at most num-clients = 8"),
        ("scenario: lda", "num-clients: 4", "12: setting client-groups = 5: at most num-"),
        ("published:", "publisht:", "10: scenario 'I 20 %': unknown key 'publisht'"),
        ("/fmnist", "/mnist", "10: scenario 'I 20 %': no published figures at"),
        ("[FedAvg]", "[FedProx]", "11: scenario 'I 20 %': without 'FedProx': no algorithm of"),
        ("[FedAvg]", "FedAvg", "11: scenario 'I 20 %': without: expected a list"),
        ("[FedAvg]", "[FedAvg, FedDAG, FedDAG*]", "11: scenario 'I 20 %': no algorithm is left"),
        ("{}\n", "{\n", "6: no valid YAML: "),
        ("num-clients: 8", "num-clients: !!python/name:os.system 8",
         "2: settings: num-clients: expected a number"),
        ("  FedAvg: {algorithm: fedavg}", "  FedAvg: !!python/object:os.system {algorithm: fedavg}",
         "6: the tag 'tag:yaml.org,2002:python/object:os.system' is not allowed"),
        ("[2, 1]", "!!python/tuple [2, 1]", "13: the tag 'tag:yaml.org,2002:python/tuple' is not"),
        ("[2, 1]", "!!map [2, 1]", "13: the tag 'tag:yaml.org,2002:map' is not allowed"),
        ("seeds: [2, 1]", "? {a: !x [1]}\n: 1", "13: the tag '!x' is not allowed"),
        ("seeds: [2, 1]", "seeds: &a [*a]", "13: seeds: None is no integer"),
        ("seeds: [2, 1]", "seeds: " + "[" * 20_000, "1: no valid YAML: nested too deeply"),
        ("momentum: 0", "<<: {momentum: 0}",
         "2: '<<' merges nothing here: write the keys out"),
        ("  III:", f"  {'I' * 101}:", f"12: scenarios: '{'I' * 101}' has over 100 letters"),
        ("scenario: lda", "dataset: fashion-mnist",
         "12: setting data-dir = '': dataset 'fashion-mnist' needs a folder or file"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_line(tmp_path, old, new, told):
    found = faults(tmp_path, change(old, new))
    assert any(line.startswith(f"made-up.yaml:{told}") for line in found), found


def test_the_longest_names_make_file_names(tmp_path):
    text = change("  III:", f"  {'I' * 100}:").replace("FedAvg", "F" * 100)
    longest = max(len(trial.slug) for trial in plan(tmp_path, text))
    assert longest == len("--".join(("i" * 100, "f" * 100, "seed-1")))
    assert longest + 20 + len(".log") <= 255  # a seed of 21 digits


def test_all_faults_are_told_at_once_and_each_once(tmp_path):
    text = change("momentum: 0", "momentum: 1").replace("{secondary: none", "{top-k: 0")
    found = faults(tmp_path, text.replace("scenario: lda", "rho: 3"))
    assert [line.split(":")[1] for line in found] == ["2", "5", "12"]


def test_faults_of_the_command_line_say_so(tmp_path):
    assert faults(tmp_path, GOOD, **{"num-rounds": "x", "seed": 3}) == [
        "command line: 'seed' is decided by the runner for each trial",
        "command line: setting num-rounds = 'x': input should be a valid integer; allowed: a whole "
        "number, at least 0, at most 100000",
    ]


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- list\n", "just text"])
def test_what_is_no_suite_is_refused(tmp_path, text):
    assert faults(tmp_path, text)[0].startswith("made-up.yaml:1: ")


def test_an_unreadable_file_is_named(tmp_path):
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SuiteError, match=r"binary\.yaml: cannot be read"):
        load_suite(path)


# --- words ---


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("schedule=5:1", "5:1"),
        ("secondary=none", "none"),
        ("dataset=no", "no"),
        ("seed=010", "010"),
        ("learning-rate=1e-4", 1e-4),
        ("momentum=.5", 0.5),
        ("top-k=-3", -3),
        ("alignment=false", False),
        ('run="1"', "1"),
        ("corruptions=", ""),
        ("data-dir=/a=b", "/a=b"),
    ],
)
def test_values_of_the_command_line_are_what_they_look_like(text, value):
    key, found = parse_assignment(text)
    assert key == text.partition("=")[0]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["momentum", "=3", "momentum=[1]", "momentum=null", "x={"])
def test_other_assignments_are_refused(text):
    with pytest.raises(SuiteError, match="--set"):
        parse_assignment(text)


# --- shipped suites ---


def test_a_suite_is_found_by_name_or_by_path(tmp_path, monkeypatch):
    assert find_suite("smoke") == shipped_suites()["smoke"]
    (tmp_path / "mine.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    assert load_suite(find_suite("mine.yaml")).name == "mine"
    with pytest.raises(SuiteError, match="did you mean 'smoke'"):
        find_suite("smok")


@pytest.mark.parametrize("name", sorted(shipped_suites()))
def test_a_shipped_suite_can_be_run(name, tmp_path):
    suite = load_suite(find_suite(name))
    assert suite.description
    trials = plan_trials(suite, {"data-dir": str(tmp_path)}, tmp_path)
    assert len(trials) == suite.num_trials


@pytest.mark.parametrize("name", ["smoke", "fmnist", "fmnist-fifth", "cifar10", "svhn", "cifar100"])
def test_the_suites_of_the_tables_have_every_algorithm(name):
    suite, smoke = load_suite(find_suite(name)), load_suite(find_suite("smoke"))
    assert [(name, layer) for name, layer in suite.algorithms.items()] == [
        (name, layer) for name, layer in smoke.algorithms.items()
    ]
    used = {layer.get("algorithm", "feddag") for layer in suite.algorithms.values()}
    assert used == set(ALGORITHMS)
