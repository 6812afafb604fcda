"""ResNet-18 on photographs of many sizes: trained from a file, exported, run by its recipe alone.

With batch norm under FedDAG (P and S), with group norm under FedAvg; two clients.
"""

import json

import numpy as np
import pytest
import torch
from memory_grid import MemoryGrid, quick_settings
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from torchvision import models

from feddag_flwr.engine.runs import build_strategy
from feddag_flwr.inference.export import METADATA, export
from feddag_flwr.inference.pictures import read_batches
from feddag_flwr.inference.predict import predict
from feddag_flwr.inference.recipe import image_recipe
from feddag_flwr.inference.served import load_served
from feddag_flwr.run_folder import RunFolder

pytestmark = pytest.mark.integration

SIDE = 32
# Of probabilities: what a program that follows the recipe says, and what ``predict`` says.
AGREEMENT = 1e-4


def photograph(path, label, size, mode, seed):
    """A picture that is bright above, or on the left, with noise."""
    pixels = np.random.default_rng(seed).integers(0, 100, (size[1], size[0], 3))
    part = pixels[: size[1] // 2] if label == 0 else pixels[:, : size[0] // 2]
    part += 120
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(path)


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sites")
    sizes = ((40, 32), (33, 61), (32, 32), (64, 48))
    for site in ("a", "b"):
        for index in range(16):
            path = folder / site / ("above", "left")[index % 2] / f"{index}.png"
            photograph(path, index % 2, sizes[index // 2 % 4], "RGB", index + 100 * (site == "b"))
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(5)
    network = models.resnet18()
    network(torch.rand(4, 3, SIDE, SIDE))
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(network.state_dict(), path)
    return path


class Watched(MemoryGrid):
    """Keeps the weights that clients get first, and takes the file's name from their settings."""

    def __init__(self, settings):
        super().__init__(settings)
        self.starts = []

    def answer(self, message):
        arrays = message.content.array_records.get("arrays", {})
        if arrays and len(self.starts) < 2:
            self.starts.append({key: np.array(each.numpy()) for key, each in arrays.items()})
        for context in self.contexts.values():
            context.run_config["encoder-weights"] = "not-there.safetensors"
        return super().answer(message)


def run_of(folder, sites, weights, **changes):
    settings = quick_settings(
        run_dir=str(folder), run_name="run", observers="checkpoints", dataset="image-folder",
        scenario="own", data_dir=str(sites), num_clients=2, client_groups=1, model="resnet18",
        encoder_weights=str(weights), image_size=SIDE, num_rounds=1, warmup_epochs=1,
        batch_size=8, participation=1.0, learning_rate=0.01, **changes,
    )  # fmt: skip
    strategy, grid = build_strategy(settings, RunFolder(settings)), Watched(settings)
    strategy.start(grid)
    return strategy, grid


def run_with(norm, tmp_path_factory, sites, weights):
    algorithm = {"batch": "feddag", "group": "fedavg"}[norm]
    folder = tmp_path_factory.mktemp("runs")
    return run_of(folder, sites, weights, algorithm=algorithm, normalisation_layer=norm)


@pytest.fixture(scope="module")
def batch(tmp_path_factory, sites, weights):
    return run_with("batch", tmp_path_factory, sites, weights)


@pytest.fixture(scope="module")
def group(tmp_path_factory, sites, weights):
    return run_with("group", tmp_path_factory, sites, weights)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_clients_start_from_the_server_s_file_and_need_none(request, weights, norm):
    strategy, grid = request.getfixturevalue(norm)
    pretrained = load_file(weights)
    first = pretrained["conv1.weight"].numpy().reshape(-1)
    assert len(grid.starts) == 2
    for start in grid.starts:
        assert np.array_equal(start["primary.floats"][: first.size], first)
        if norm == "batch":
            mean = start["primary.buffers"][:64]
            assert np.array_equal(mean, pretrained["bn1.running_mean"].numpy())
        else:
            assert "primary.buffers" not in start or not start["primary.buffers"].size
    trained = strategy.state.models[0]
    assert not np.array_equal(trained["primary"].floats[: first.size], first)


def by_recipe(path, recipe):
    """What a program makes of a picture that has the recipe, Pillow and NumPy alone."""
    image = ImageOps.exif_transpose(Image.open(path)).convert(recipe["mode"])
    width, height = recipe["cover"]["width"], recipe["cover"]["height"]
    if width * image.height >= height * image.width:
        covering = width, width * image.height // image.width
    else:
        covering = height * image.width // image.height, height
    left, top = round((covering[0] - width) / 2), round((covering[1] - height) / 2)
    across, down = image.width / covering[0], image.height / covering[1]
    box = left * across, top * down, (left + width) * across, (top + height) * down
    image = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.float32(image).transpose(2, 0, 1)[np.newaxis] / recipe["divide-by"]


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_onnx_by_its_recipe_says_what_predict_says(request, sites, tmp_path, norm):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    strategy, _ = request.getfixturevalue(norm)
    served = load_served(strategy.folder.path, client="a")
    export(served, tmp_path / "model.onnx")
    description = json.loads((tmp_path / "model.onnx.json").read_text())
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    assert session.get_modelmeta().custom_metadata_map[METADATA]
    said = list(predict(served, read_batches([sites / "a"], served.form, served.class_names)))
    assert len(said) == 16
    for each in said:
        (logits,) = session.run(None, {"images": by_recipe(each.name, description["recipe"])})
        powers = np.exp(logits[0] - logits[0].max())
        np.testing.assert_allclose(powers / powers.sum(), each.probabilities, atol=AGREEMENT)
        assert description["labels"][int(logits[0].argmax())] == each.label


def test_a_photograph_on_its_side_and_a_grey_one_fit_the_recipe(batch, tmp_path):
    strategy, _ = batch
    served = load_served(strategy.folder.path, cluster=0)
    photograph(tmp_path / "grey.png", 0, (50, 80), "L", 3)
    photograph(tmp_path / "side.png", 1, (70, 35), "RGB", 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(tmp_path / "side.png").save(tmp_path / "side.png", exif=exif)
    pictures, *_ = read_batches([tmp_path], served.form, served.class_names)
    for name, image in zip(pictures.names, pictures.images, strict=True):
        prepared = by_recipe(name, image_recipe(served.form))[0]
        np.testing.assert_allclose(prepared, image, atol=1e-7)


def test_a_served_model_has_the_run_s_norm(group):
    strategy, _ = group
    served = load_served(strategy.folder.path, cluster=0)
    kinds = [type(layer).__name__ for layer in served.classifier.modules()]
    assert kinds.count("GroupNorm") == 20
    assert kinds.count("BatchNorm2d") == 0
