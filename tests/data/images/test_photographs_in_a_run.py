"""Large photographs of mixed sizes, loose in folders, through a whole run and `predict`."""

import json
import logging

import numpy as np
import pytest
from memory_grid import run_quickly
from PIL import Image

from feddag_flwr.data.images import preparation
from feddag_flwr.launcher.cli import main

SIZES = ((900, 600), (600, 900), (640, 480), (1024, 200))
CLASSES = ("bright", "dark")


@pytest.fixture
def sites(tmp_path):
    """Three sites of 16 JPEGs each, one of them grey; the second has a broken one among them."""
    for site in range(3):
        rng = np.random.default_rng(site)
        for label, name in enumerate(CLASSES):
            folder = tmp_path / "sites" / f"site-{site}" / name
            folder.mkdir(parents=True)
            for number in range(8):
                width, height = SIZES[(site + number) % len(SIZES)]
                coarse = rng.integers(0, 100, (6, 9, 3), dtype=np.uint8) + np.uint8(
                    150 - 150 * label
                )
                photograph = Image.fromarray(coarse).resize((width, height))
                if site == 2:
                    photograph = photograph.convert("L")
                photograph.save(folder / f"{number}.jpg")
    broken = tmp_path / "sites" / "site-1" / "dark" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    return tmp_path / "sites"


@pytest.mark.integration
@pytest.mark.parametrize("in_memory", [2**24, 0], ids=["in-memory", "mapped"])
def test_large_photographs_of_mixed_sizes_go_through_a_run(
    sites, tmp_path, monkeypatch, caplog, capsys, in_memory
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(preparation, "IN_MEMORY", in_memory)
    with caplog.at_level(logging.INFO, logger="flwr"):
        strategy, _ = run_quickly(
            tmp_path, dataset="image-folder", scenario="own", data_dir=str(sites), image_size=32,
            num_clients=3, participation=1.0, client_groups=1, augmentation="standard",
            validation_share=0.2, keep="best-validation", evaluate_every=1, learning_rate=0.05,
            observers="round-log, checkpoints, closing-table",
        )  # fmt: skip
    assert sorted(strategy.state.assignments) == ["site-0", "site-1", "site-2"]
    assert strategy.state.sample_shape == (3, 32, 32)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert "site-1" in str(summary["left-out"]) and "site-0" not in str(summary["left-out"])
    assert summary["overall"]["balanced-accuracy"] == 1.0
    assert [f"{site}/dark/3.jpg" in caplog.text for site in ("site-1", "site-0")] == [True, False]
    capsys.readouterr()
    status = main(
        ["predict", str(tmp_path / "run"), "--client", "site-0", *map(str, sites.iterdir())]
    )
    told = capsys.readouterr()
    assert status == 0
    assert told.err.startswith("48 images, 1 of which cannot be read, 47 of a known class")
    assert "accuracy 100.00%" in told.err
