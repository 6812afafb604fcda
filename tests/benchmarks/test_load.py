"""The load benchmark: its settings, its verdict, and one small run in this process."""

import load
import pytest

from feddag_flwr.settings import Settings
from feddag_lab.process_watch.trend import by_round


def test_settings_of_a_thousand_clients_on_fashion_mnist(tmp_path):
    settings = Settings.from_run_config(load.Load(1000, 200, 30, tmp_path).run_config(tmp_path))

    assert settings.run.num_clients * settings.run.participation == pytest.approx(200)
    assert (settings.data.dataset, settings.data.train_share) == ("fashion-mnist", 1.0)
    few = Settings.from_run_config(load.Load(40, 4, 30, tmp_path).run_config(tmp_path))
    assert few.data.train_share * load.TRAIN_IMAGES / 40 == pytest.approx(load.IMAGES_A_CLIENT)


def test_a_run_in_this_process_is_sampled_round_by_round(tmp_path, capsys):
    asked = load.Load(clients=6, sampled=2, rounds=4, data_dir=None)

    samples = load.run_here(asked, tmp_path, period=0.002)

    rounds = by_round(samples)
    assert set(rounds.index.unique("role")) == {"this process", "total"}
    assert {1, 2, 3, 4} <= set(rounds.loc["this process"].index)
    trends = load.report(samples, asked, "in one process", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "processes.csv", "rounds.csv", "load.png"
    }  # fmt: skip
    assert load.verdict([each for each in trends if each.quantity == "processes"])
    assert "flat" in capsys.readouterr().out
