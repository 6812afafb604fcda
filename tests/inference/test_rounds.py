"""A model of an earlier round, or of the best one; and pictures prepared as training did."""

import json

import numpy as np
import pytest
import torch
from bad_inputs.images import folder
from digit_runs import CLIENT
from memory_grid import quick_settings
from PIL import Image

from feddag_flwr.checkpoints import CheckpointError, CheckpointFolder, chosen_checkpoint
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.inference.pictures import read_batches
from feddag_flwr.inference.served import load_served
from feddag_flwr.launcher import main
from feddag_flwr.modalities import load_modality
from feddag_flwr.simulation import run_in_process

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A run of five rounds that watches what is held back; its last three checkpoints are kept."""
    return run_in_process(
        quick_settings(
            run_dir=str(tmp_path_factory.mktemp("runs")), algorithm="fedavg", num_rounds=5,
            evaluate_every=1, validation_share=0.3, patience=50, participation=1.0,
            learning_rate=0.5, batch_size=4,
        )
    )  # fmt: skip


def floats_of(model):
    return {part: weights.floats for part, weights in model.items()}


def same(one, other):
    return all((floats_of(one)[part] == floats_of(other)[part]).all() for part in one)


def test_a_round_that_is_kept_and_the_newest(watched):
    kept = CheckpointFolder(watched / "checkpoints", keep=1)
    assert kept.rounds() == [3, 4, 5]
    for number in kept.rounds():
        served = load_served(watched, cluster=0, server_round=number)
        assert served.server_round == number
        tensors = served.classifier.model.state_dict()
        expected = kept.read(number)
        for name, array in expected.layout.named(expected.state.models[0]).items():
            assert np.array_equal(tensors[name].numpy(), array)
    assert load_served(watched, cluster=0).server_round == 5
    assert not same(kept.read(4).state.models[0], kept.read(5).state.models[0])


def test_the_best_round_s_models(watched):
    lines = [json.loads(line) for line in (watched / "metrics.jsonl").open()]
    looked = {
        line["round"]: line["validation"]["overall"]["balanced-accuracy"]
        for line in lines
        if "validation" in line
    }
    assert sorted(looked) == [1, 2, 3, 4, 5]
    best = max(looked, key=lambda number: (looked[number], -number))
    found = chosen_checkpoint(watched, "best")
    assert (
        found.server_round
        == best
        == load_served(watched, cluster=0, server_round="best").server_round
    )
    kept = CheckpointFolder(watched / "checkpoints", keep=1)
    if best in kept.rounds():
        assert same(found.state.models[0], kept.read(best).state.models[0])


def test_rounds_that_are_not_kept_are_refused_in_one_sentence(watched, feddag, tmp_path, capsys):
    with pytest.raises(CheckpointError, match=r"round 2 is not kept in .*: kept are 3 to 5 \(set"):
        chosen_checkpoint(watched, 2)
    with pytest.raises(CheckpointError, match="no round is known to be the best"):
        chosen_checkpoint(feddag.path, "best")
    with pytest.raises(CheckpointError, match=r"round 2 is not kept in .*: none is"):
        chosen_checkpoint(tmp_path, 2)
    export = ["export", str(watched), "--cluster", "0", "--output", str(tmp_path / "a.pt")]
    assert main([*export, "--round", "9"]) == 1
    told = capsys.readouterr().err
    assert "round 9 is not kept" in told
    assert len(told.splitlines()) == 1
    with pytest.raises(SystemExit):
        main([*export, "--round", "-1"])
    assert "'-1' must be a round or 'best'" in capsys.readouterr().err


def test_both_commands_take_a_round(watched, archive, tmp_path, capsys):
    output = tmp_path / "a.pt"
    for choice in ("4", "best"):
        chosen = ["--client", CLIENT, "--round", choice]
        assert main(["export", str(watched), *chosen, "--output", str(output)]) == 0
        wanted = chosen_checkpoint(watched, int(choice) if choice == "4" else "best").server_round
        assert f"cluster 0 after round {wanted}" in capsys.readouterr().out
        assert json.loads((tmp_path / "a.pt.json").read_text())["round"] == wanted
        assert main(["predict", str(watched), *chosen, str(archive)]) == 0
        said = {line.split("\t")[2] for line in capsys.readouterr().out.splitlines()}
        served = load_served(
            watched, client=CLIENT, server_round=wanted if choice == "4" else "best"
        )
        images = torch.from_numpy(np.load(archive)["images"]).permute(0, 3, 1, 2)
        with torch.no_grad():
            logits = served.classifier(images.float() / (255 if images.dtype == torch.uint8 else 1))
        expected = torch.softmax(logits.double(), dim=1).max(dim=1).values.tolist()
        assert said == {f"{each:.4f}" for each in expected}


def test_predict_prepares_pictures_as_training_did(tmp_path):
    """Sizes differ, some lie down, some have 16 bits: the model gets the same numbers, to 1e-6."""

    def change(made, index):
        if index % 3 == 1:
            return Image.fromarray(np.asarray(made, np.uint16) * 16)
        return made.resize((18 + 3 * index, 30 - index))

    for ward in range(2):
        folder(tmp_path / f"data/ward-{ward}", change=change, place="{name}/{index}")
    settings = quick_settings(
        scenario="own", dataset="image-folder", data_dir=str(tmp_path / "data"), num_clients=2,
        algorithm="fedavg", num_rounds=1, model="small", run_dir=str(tmp_path / "runs"),
        image_size=16,
    )  # fmt: skip
    served = load_served(run_in_process(settings), client="ward-1")
    assert served.form.bits == 12
    root = tmp_path / "data/ward-1"
    data = load_client_data(settings, {"data-path": str(root)}, 0, served.spec)
    modality = load_modality("image")
    trained = [
        modality.to_device(torch.device("cpu"), part, served.sample_scale).inputs(
            torch.arange(len(part))
        )
        for part in (data.train, data.test)
    ]
    batches = read_batches([root], served.form, served.class_names)
    asked = torch.cat([torch.from_numpy(batch.images) for batch in batches])
    classifier = served.classifier
    asked = torch.addcmul(classifier.offset, asked, classifier.factor)
    assert len(asked) == 24
    for image in torch.cat(trained):
        nearest = min(float((image - other).abs().max()) for other in asked)
        assert nearest <= 1e-6
