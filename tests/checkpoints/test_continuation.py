import pytest

from feddag_flwr.checkpoints import check_continuation, lasting_settings
from feddag_flwr.settings import Settings, SettingsError, keys

MAY_DIFFER = set(keys(lambda facts: facts.may_differ))
BEFORE = Settings.from_run_config({"num-rounds": 10, "seed": 5}).to_run_config()


def test_the_same_settings_go_on():
    check_continuation(BEFORE, BEFORE, 7)


def test_what_decides_nothing_of_the_result_may_differ():
    others = {
        "num-rounds": 30, "min-clients": 3, "join-timeout": 1.0, "profile-timeout": 1.0,
        "round-timeout": 1.0, "max-in-flight": 2, "checkpoint-every": 4, "keep-checkpoints": 9,
        "resume": "runs/x", "run-dir": "elsewhere", "run-name": "again", "data-dir": "moved",
        "download": True, "device-memory": 100, "strict": True, "max-reply-size": 64,
    }  # fmt: skip
    assert others.keys() == MAY_DIFFER
    assert others.keys() <= set(keys())
    check_continuation(BEFORE, BEFORE | others, 7)


@pytest.mark.parametrize("key", sorted(set(keys()) - MAY_DIFFER))
def test_any_other_difference_is_named_with_both_values(key):
    with pytest.raises(SettingsError) as caught:
        check_continuation(BEFORE | {key: "before"}, BEFORE | {key: "now"}, 7)
    assert str(caught.value) == f"setting {key} = 'now': the run to resume has 'before'"


def test_all_faults_are_told_at_once():
    with pytest.raises(SettingsError) as caught:
        check_continuation(BEFORE, BEFORE | {"seed": 6, "momentum": 0.1, "num-rounds": 6}, 7)
    assert str(caught.value).splitlines() == [
        "setting momentum = 0.1: the run to resume has 0.5",
        "setting seed = 6: the run to resume has 5",
        "setting num-rounds = 6: the run to resume has done 7",
    ]


def test_as_many_rounds_as_are_done_are_enough():
    check_continuation(BEFORE, BEFORE | {"num-rounds": 7}, 7)


def test_a_setting_that_is_new_counts_as_its_default():
    older = {key: value for key, value in BEFORE.items() if key != "transport"}
    check_continuation(older, BEFORE, 7)
    with pytest.raises(
        SettingsError, match="transport = 'float16': the run to resume has 'float32'"
    ):
        check_continuation(older, BEFORE | {"transport": "float16"}, 7)


def test_a_setting_that_is_gone_is_a_difference():
    with pytest.raises(SettingsError, match="setting old = None: the run to resume has 3"):
        check_continuation(BEFORE | {"old": 3}, BEFORE, 7)


def test_old_names_of_a_stopped_run_are_told_the_new_ones():
    old = {key: value for key, value in BEFORE.items() if key != "dataset"}
    old |= {"source": "digits", "classifier-training": "halves"}
    with pytest.raises(SettingsError) as caught:
        check_continuation(old, BEFORE, 7)
    assert str(caught.value).splitlines() == [
        "the run to resume: setting source = 'digits': the setting is called 'dataset' now",
        "the run to resume: setting classifier-training = 'halves': the value is called "
        "'separate' now",
    ]


def test_a_checkpoint_keeps_all_settings_but_its_place():
    settings = Settings.from_run_config({"run-name": "x", "run-dir": "y", "seed": 4})
    kept = lasting_settings(settings)
    assert settings.to_run_config().keys() - kept.keys() == {"run-dir", "run-name", "resume"}
    assert kept["seed"] == 4
    check_continuation(kept, settings.to_run_config(), 7)
