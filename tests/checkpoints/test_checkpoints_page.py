"""The examples of docs/checkpoints.md, on a real run."""

import json
import re
from pathlib import Path

import numpy as np
import torch
from memory_grid import quick_settings
from safetensors.torch import load_file

from feddag_flwr.inference.served import load_served
from feddag_flwr.simulation import run_in_process

PAGE = Path(__file__).resolve().parents[2] / "docs/checkpoints.md"


def test_the_page_s_examples_load_a_model_and_go_on_with_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"run_dir": "runs", "run_name": "example"}
    run_in_process(quick_settings(num_rounds=2, secondary="own", **names))
    load, go_on = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(load[load.index("folder =") :].splitlines()) <= 10

    scope = {}
    exec(load, scope)
    served = load_served(Path("runs/example"), cluster=0)
    with torch.no_grad():
        expected = served.classifier(scope["images"])
    assert torch.allclose(scope["logits"], expected, atol=1e-5)
    assert "secondary.0.weight" in scope["tensors"]
    assert "classifier.primary_head.bias" in scope["tensors"]

    exec(go_on, scope)
    lines = Path("runs/example/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [0, 1, 2, 3, 4]
    run_in_process(quick_settings(num_rounds=4, secondary="own", **names | {"run_name": "whole"}))
    last = "checkpoints/round-000004/models/cluster-000.safetensors"
    whole, resumed = (load_file(Path("runs") / name / last) for name in ("whole", "example"))
    assert whole.keys() == resumed.keys()
    assert all(np.array_equal(whole[key], resumed[key]) for key in whole)
