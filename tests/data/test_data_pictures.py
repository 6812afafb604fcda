import numpy as np
import pytest
from PIL import Image

from feddag_flwr.data.overview import tabulate
from feddag_flwr.data.pictures import (
    choose_clients,
    draw_counts,
    draw_samples,
    draw_scenario,
)
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.launcher.cli import main
from feddag_flwr.settings import Settings


def _settings(**values):
    return Settings.from_run_config({key.replace("_", "-"): value for key, value in values.items()})


COMBINED = {"concepts": 3, "rotations": 4, "corruptions": "fog,snow"}


@pytest.mark.parametrize("changes", [{}, {"scenario": "lda"}, COMBINED])
def test_the_table_counts_what_clients_load(changes):
    settings = _settings(**changes)
    table = tabulate(settings)
    for index in range(settings.run.num_clients):
        data = load_client_data(settings, {"partition-id": index})
        assert table.names[index] == data.name
        assert table.counts[index].tolist() == np.bincount(data.train.labels, minlength=10).tolist()
        assert table.groups[index] == data.true_group
    assert table.class_names == data.class_names
    assert sorted(table.by_group()) == list(range(20))
    assert all(bool(words) == (changes == COMBINED) for words in table.variations)


def test_the_table_of_own_data_joins_classes_by_name(tmp_path):
    for name, classes in (("a", ["cat", "dog"]), ("b", ["ant", "dog"])):
        np.savez(
            tmp_path / f"{name}.npz",
            images=np.zeros((12, 4, 4), np.uint8),
            labels=np.array([0] * 8 + [1] * 4),
            class_names=np.array(classes),
        )
    settings = _settings(
        scenario="own", dataset="npz", data_dir=str(tmp_path), num_clients=2, client_groups=2
    )
    table = tabulate(settings)
    assert table.class_names == ("ant", "cat", "dog")
    assert table.counts.tolist() == [[0, 6, 3], [6, 0, 3]]  # a quarter is held out
    assert table.groups == (None, None)
    assert len(draw_scenario(settings, tmp_path / "pictures")) == 2


def test_the_map_shows_the_table_by_group():
    table = tabulate(_settings())
    axes = draw_counts(table, "a title").axes[0]
    shown = axes.images[0].get_array().filled(0)
    assert (shown == table.counts[table.by_group()]).all()
    lines = sorted(line.get_ydata()[0] for line in axes.lines)
    assert lines == [3.5, 7.5, 11.5, 15.5]  # five groups of four
    first = table.by_group()[0]
    assert axes.get_yticklabels()[0].get_text() == f"{table.names[first]} | group 0"


def test_groups_are_named_where_clients_are_too_many():
    table = tabulate(_settings(num_clients=100, min_class_samples=1, corruptions="snow"))
    labels = [label.get_text() for label in draw_counts(table, "a title").axes[0].get_yticklabels()]
    assert labels == [f"group {group} | snow 3" for group in range(5)]


@pytest.mark.parametrize(
    ("changes", "clients", "groups"),
    [({}, 10, 5), ({"client_groups": 17}, 12, 12), ({"scenario": "lda"}, 12, 1)],
)
def test_the_sheet_shows_clients_of_many_groups(changes, clients, groups):
    table = tabulate(_settings(**changes))
    chosen = choose_clients(table)
    assert len(set(chosen)) == len(chosen) == clients
    assert len({table.groups[client] for client in chosen}) == groups


def test_the_command_makes_both_pictures(tmp_path, capsys):
    config = 'concepts=3 rotations=4 corruptions="fog,snow" severity=0'
    assert main(["scenario", "--run-config", config, "--output", str(tmp_path / "made")]) == 0
    paths = capsys.readouterr().out.split()
    assert [path.rpartition("/")[2] for path in paths] == ["counts.png", "samples.png"]
    for path in paths:
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert np.asarray(picture.convert("L")).std() > 10  # not blank


def test_the_command_names_faults(tmp_path, capsys):
    arguments = ["scenario", "--output", str(tmp_path), "--run-config"]
    assert main([*arguments, 'corruptions="fogg"']) == 2
    assert "corruptions = 'fogg': no corruption 'fogg'; must be empty" in capsys.readouterr().err
    assert main([*arguments, "num-clients=900 min-class-samples=9"]) == 2
    assert "lower min-class-samples or num-clients" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_dollar_in_a_class_name_is_no_formula(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        np.savez(
            tmp_path / f"{name}.npz",
            images=rng.integers(0, 255, (12, 4, 4), np.uint8),
            labels=np.array([0] * 6 + [1] * 6),
            class_names=np.array([r"$\frac{$", "$x_{$"]),
        )
    settings = _settings(dataset="npz", scenario="own", data_dir=str(tmp_path), num_clients=2)
    table = tabulate(settings)
    for figure in (draw_counts(table, "$_{$"), draw_samples(table, settings, "$_{$")):
        figure.savefig(tmp_path / "figure.png")  # a formula that is none raises ValueError
