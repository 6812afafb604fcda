"""A metric that is added from one file, and found wherever a run reports."""

import json

import numpy as np
import pytest
from memory_grid import quick_settings
from sklearn.metrics import f1_score

from feddag_flwr.metrics import ArraySpec, Metric, MetricError, load_metrics
from feddag_flwr.simulation import run_in_process

OWN = f"{__name__}:MacroF1"


class MacroF1(Metric):
    """Mean of the classes' F1, from a table of true and predicted classes."""

    name = "macro-f1"

    def arrays(self, num_classes):
        return {"table": ArraySpec(np.int64, (num_classes, num_classes))}

    def update(self, scores, labels, losses):
        classes = scores.shape[1]
        cells = (labels * classes + scores.argmax(dim=1)).cpu().numpy()
        return {"table": np.bincount(cells, minlength=classes**2).reshape(classes, classes)}

    def value(self, state, totals):
        table = state["table"]
        both = table.sum(axis=0) + table.sum(axis=1)
        return float(np.mean(2 * np.diag(table)[both > 0] / both[both > 0]))

    def check(self, state, totals):
        if (state["table"] < 0).any() or (state["table"].sum(axis=1) != totals).any():
            raise MetricError("the table's rows are not the samples of the classes")


def test_the_metric_itself_is_scikit_learns():
    import torch

    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.normal(size=(90, 4)))
    labels = torch.from_numpy(rng.integers(3, size=90))
    (metric,) = load_metrics([OWN])
    found = metric.value(metric.update(scores, labels, scores[:, 0]), None)
    assert found == pytest.approx(f1_score(labels, scores.argmax(dim=1), average="macro"))


def test_it_is_in_metrics_jsonl_and_in_summary_json(tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    settings = quick_settings(
        run_dir=str(tmp_path), num_rounds=2, metrics=f"{OWN}, loss", checkpoint_every=1
    )
    folder = run_in_process(settings)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    overall = lines[-1]["all"]["overall"]
    assert list(overall) == ["clients", "macro-f1", "loss"]
    by_client = lines[-1]["all"]["by-client"]
    values = [each["macro-f1"] for each in by_client.values()]
    assert overall["macro-f1"] == pytest.approx(np.mean(values))
    assert all(set(each) == {"macro-f1", "samples"} for each in by_client.values())
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["overall"] == overall
    assert all("macro-f1" in cluster for cluster in summary["clusters"])
    assert f"macro f1 {100 * overall['macro-f1']:5.1f} %" in caplog.text
    assert "macro f1" in capsys.readouterr().out
    checkpoint = sorted(folder.glob("checkpoints/round-*"))[-1]
    assert any('"macro-f1"' in part.read_text() for part in checkpoint.glob("*.json"))
