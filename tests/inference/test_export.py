import json

import pytest
import torch
from digit_runs import CLIENT
from torch import nn

from feddag_flwr.inference import export as export_module
from feddag_flwr.inference.export import METADATA, ExportError, export
from feddag_flwr.inference.served import Served, ServedClassifier, load_served
from feddag_flwr.launcher import main
from feddag_flwr.models.dual_encoder import ClusterModel

pytestmark = pytest.mark.integration


def images_of(run):
    """Client 0's test images, in [0, 1]."""
    return torch.from_numpy(run.data.test.samples).float() / 255


def logits_of(served, images):
    with torch.no_grad():
        return served.classifier(images)


def check_description(text, run):
    found = json.loads(text)
    assert found["labels"] == list("0123456789")
    assert found["input"] == {
        "name": "images", "shape": ["n", 1, 8, 8], "type": "float32", "range": [0, 1]
    }  # fmt: skip
    assert "centre crop of 8 x 8" in found["preparation"]
    assert "grey" in found["preparation"]
    assert found["output"] == {"name": "logits", "shape": ["n", 10]}
    assert found["cluster"] == run.checkpoint.state.assignments[CLIENT]
    assert (found["client"], found["round"], found["algorithm"]) == (CLIENT, 3, "feddag")
    assert found["checkpoint"] == run.checkpoint.checksum


def test_torchscript_gives_the_model_s_logits(feddag, tmp_path, capsys):
    output = tmp_path / "new" / "ward.pt"
    code = main(["export", str(feddag.path), "--client", CLIENT, "--output", str(output)])
    assert code == 0
    assert str(output) in capsys.readouterr().out
    extra = {METADATA: ""}
    loaded = torch.jit.load(str(output), _extra_files=extra)
    images = images_of(feddag)
    assert len(images) > 5
    with torch.no_grad():
        found = loaded(images)
    assert torch.equal(found, logits_of(load_served(feddag.path, client=CLIENT), images))
    check_description(extra[METADATA], feddag)
    check_description((tmp_path / "new" / "ward.pt.json").read_text(), feddag)
    assert sorted(each.name for each in output.parent.iterdir()) == ["ward.pt", "ward.pt.json"]


def test_onnx_gives_the_model_s_logits(feddag, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    output = tmp_path / "ward.onnx"
    assert main(["export", str(feddag.path), "--client", CLIENT, "--output", str(output)]) == 0
    session = onnxruntime.InferenceSession(str(output))
    images = images_of(feddag)
    for count in (1, len(images)):
        (found,) = session.run(["logits"], {"images": images[:count].numpy()})
        expected = logits_of(load_served(feddag.path, client=CLIENT), images[:count])
        assert torch.allclose(torch.from_numpy(found), expected, atol=1e-4)
    check_description(session.get_modelmeta().custom_metadata_map[METADATA], feddag)
    check_description((tmp_path / "ward.onnx.json").read_text(), feddag)


def test_onnx_names_the_extra_where_its_packages_are_missing(feddag, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export_module.importlib.util, "find_spec", lambda name: None)
    output = tmp_path / "ward.onnx"
    assert main(["export", str(feddag.path), "--cluster", "0", "--output", str(output)]) == 1
    assert (
        "onnxruntime: install the extra, pip install 'feddag-flwr[onnx]'" in capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())


def test_another_ending_is_refused(feddag, tmp_path, capsys):
    output = str(tmp_path / "ward.pth")
    assert main(["export", str(feddag.path), "--cluster", "0", "--output", output]) == 2
    assert "ward.pth: must end in .pt (TorchScript) or .onnx" in capsys.readouterr().err


class ByCount(nn.Module):
    """Features that depend on how many images there are: a trace cannot know."""

    feature_size = 4

    def forward(self, images):
        return images.flatten(1)[:, :4] * (2.0 if len(images) == 5 else 1.0)


def test_a_model_that_a_trace_gets_wrong_is_refused(tmp_path):
    torch.manual_seed(1)
    model = ServedClassifier(ClusterModel(ByCount(), None, 3), ((0.0, 1.0),)).eval()
    served = Served(model, ("a", "b", "c"), (1, 2, 2), "fedavg", 0, None, False, 1, "")
    (tmp_path / "x.pt").write_text("older")
    with pytest.raises(ExportError, match="something else than the model for 5 images"):
        export(served, tmp_path / "x.pt")
    assert [each.name for each in tmp_path.iterdir()] == ["x.pt"]
    assert (tmp_path / "x.pt").read_text() == "older"


def test_batch_norm_is_exported_as_evaluated(tmp_path):
    torch.manual_seed(1)
    encoder = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Dropout(0.5))
    encoder.feature_size = 4
    model = ServedClassifier(ClusterModel(encoder, None, 3), ((0.5, 2.0),)).eval()
    served = Served(model, ("a", "b", "c"), (1, 2, 2), "fedavg", 0, None, False, 1, "")
    export(served, tmp_path / "x.pt")
    images = torch.rand(7, 1, 2, 2)
    with torch.no_grad():
        assert torch.equal(torch.jit.load(str(tmp_path / "x.pt"))(images), model(images))


class OfType(nn.Module):
    """Features computed in another number format than the rest of the model."""

    feature_size = 4

    def __init__(self, dtype, *, back):
        super().__init__()
        self.linear = nn.Linear(4, 4, dtype=dtype)
        self.back = back

    def forward(self, images):
        features = self.linear(images.flatten(1).to(self.linear.weight.dtype))
        return features.float() if self.back else features


class Loop(nn.Module):
    """Features of one image after another: a trace knows one number of images alone."""

    feature_size = 4

    def forward(self, images):
        return torch.stack([image.flatten() for image in images])


class Asking(nn.Module):
    """Features that depend on a number which no exporter knows."""

    feature_size = 4

    def forward(self, images):
        features = images.flatten(1)
        return features * 2 if features.sum().item() > 1e9 else features


@pytest.mark.parametrize(
    ("encoder", "name", "told"),
    [
        (OfType(torch.bfloat16, back=True), "x.onnx", "cannot be exported as ONNX: "),
        (OfType(torch.float64, back=False), "x.onnx", "cannot be exported as ONNX: "),
        (OfType(torch.float64, back=False), "x.pt", "cannot be exported as TorchScript: mat1"),
        (Loop(), "x.pt", "fails on 1 images: an encoder whose forward loops over the images"),
        (Loop(), "x.onnx", "fails on 1 images: an encoder whose forward loops over the images"),
        (Asking(), "x.onnx", "cannot be exported as ONNX: "),
    ],
)
def test_a_model_that_a_format_cannot_hold_is_refused_in_one_line(
    tmp_path, monkeypatch, capsys, encoder, name, told
):
    if name.endswith("onnx"):
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    model = ServedClassifier(ClusterModel(encoder, None, 3), ((0.0, 1.0),)).eval()
    served = Served(model, ("a", "b", "c"), (1, 2, 2), "fedavg", 0, None, False, 1, "")
    monkeypatch.setattr("feddag_flwr.inference.served.load_served", lambda *_, **__: served)
    refused = []

    def watched(*arguments):
        try:
            return export(*arguments)
        except ExportError as error:
            refused.append(str(error))
            raise

    monkeypatch.setattr(export_module, "export", watched)
    output = tmp_path / name
    assert main(["export", "run", "--cluster", "0", "--output", str(output)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("feddag-flwr: the ")
    assert told in last
    assert "Traceback" not in last
    (reason,) = refused
    assert "\n" not in reason
    assert not list(tmp_path.iterdir())


def test_double_precision_inside_an_encoder_is_exported(tmp_path):
    model = ServedClassifier(ClusterModel(OfType(torch.float64, back=True), None, 3), ((0.0, 1.0),))
    served = Served(model.eval(), ("a", "b", "c"), (1, 2, 2), "fedavg", 0, None, False, 1, "")
    export(served, tmp_path / "x.pt")
    images = torch.rand(3, 1, 2, 2)
    with torch.no_grad():
        assert torch.allclose(torch.jit.load(str(tmp_path / "x.pt"))(images), model(images))
