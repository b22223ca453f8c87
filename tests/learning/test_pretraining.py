"""Pre-training: its data, the frozen weights, and resuming a run."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from django.core.management import CommandError, call_command
from PIL import Image
from safetensors.numpy import save_file

from inference.engine.checkpoint import Metadata
from inference.engine.network import build, from_checkpoint
from inference.learning import features, pretraining
from inference.learning.augment import Strength
from inference.learning.layer4 import INHERITED, keep_lower_half, open_upper_half
from inference.learning.pretraining_data import Source, batches, centre, crop, read_patches, split

FORBIDDEN = {"breakhis", "breakhis-tile", "ucsb", "demo"}
TINY = pretraining.Pretraining(minutes=0.02, batch=6, size=32, average=0.5)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets of other organs, IDC patches, and breast fields that must not be used."""
    root = tmp_path_factory.mktemp("pretraining")
    random = np.random.default_rng(0)

    def write(name: str, side: int) -> str:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(root / name)
        return name

    with open(_made(root / "pretrain" / "index.csv"), "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "dataset", "label", "is_tumour", "group", "width", "height"])
        for i in range(24):
            tumour = i % 2
            table.writerow([write(f"pretrain/a/{i}.png", 64), "organ-a", f"kind{tumour}", tumour, f"g{i // 2}", 64, 64])
        for i in range(12):
            table.writerow([write(f"pretrain/b/{i}.png", 48), "organ-b", "mucus", "", "", 48, 48])
    with open(root / "index.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "dataset", "label", "subtype", "group", "magnification", "width", "height"])
        for i in range(20):
            label = "idc-positive" if i % 4 == 0 else "idc-negative"
            table.writerow([write(f"idc/{i}.png", 50), "idc", label, "", f"p{i}", "40X", 50, 50])
        table.writerow([write("idc/edge.png", 20), "idc", "idc-positive", "", "p1", "40X", 20, 20])
        for name in sorted(FORBIDDEN):
            table.writerow([write(f"{name}/1.png", 64), name, "benign", "A", "22549", "100X", 64, 64])
    return root


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the layout of the ImageNet weights."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    state = build(Metadata("m", "1")).state_dict()
    kept = {k: v.numpy() for k, v in state.items() if not k.startswith(("layer4", "fc")) and "num_batches" not in k}
    save_file(kept, folder / features.TRUNK_FILE)
    return folder


def test_breast_fields_are_never_used_for_pretraining(tree: Path) -> None:
    patches = read_patches(tree)
    assert Counter(one.dataset for one in patches) == {"organ-a": 24, "organ-b": 12, "idc": 20}
    assert not {one.dataset for one in patches} & FORBIDDEN
    learned, held = split(patches)
    assert sorted(learned + held) == list(range(len(patches)))
    assert not {patches[i].group for i in learned} & {patches[i].group for i in held}


def test_the_real_index_yields_no_breast_field(data: Path) -> None:
    if not (data / "pretrain" / "index.csv").exists():
        pytest.skip("no pre-training images")
    patches = read_patches(data)
    assert not {one.dataset for one in patches} & FORBIDDEN
    assert not any(name in one.path.parts for one in patches for name in ("breakhis", "breakhis_tiles", "ucsb", "demo"))


def test_batches_are_balanced_and_repeatable(tree: Path) -> None:
    source = Source(read_patches(tree))
    indices = list(range(len(source.patches)))
    chance = source.shares(indices)
    idc = source.dataset == source.datasets.index("idc")
    positive = idc & (source.label == source.classes["idc"].index("idc-positive"))
    assert chance.sum() == pytest.approx(1)
    assert chance[positive].sum() == pytest.approx(chance[idc].sum() / 2)
    assert chance[idc].sum() / chance[~idc].sum() == pytest.approx(np.sqrt(20) / (np.sqrt(24) + np.sqrt(12)))
    drawn = []
    for first in (0, 0, 1):
        stream = batches(source, indices, 4, 32, Strength(), 0.6, seed=3, first=first)
        drawn.append([next(stream), next(stream)])
        stream.close()
    assert (drawn[0][1].pixels == drawn[1][1].pixels).all() and (drawn[0][1].pixels == drawn[2][0].pixels).all()
    assert drawn[0][0].pixels.shape == (4, 32, 32, 3)


@pytest.mark.parametrize("side", [(50, 50), (224, 224), (33, 50)])
def test_crops_have_one_size(side: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (*side, 3), dtype=np.uint8)
    assert crop(pixels, np.random.default_rng(1), Strength(), 32, 0.6).shape == (32, 32, 3)
    assert centre(pixels, 32).shape == (32, 32, 3)


def test_learning_rates_warm_up_and_decay_to_zero() -> None:
    factors = [pretraining.factor(progress, 0.1) for progress in (0.0, 0.05, 0.1, 0.5, 1.0)]
    assert 0 < factors[0] < factors[1] < factors[2] == 1 > factors[3] > factors[4] == pytest.approx(0)


def test_a_step_trains_only_the_upper_half() -> None:
    torch.manual_seed(0)
    network = build(Metadata("m", "1", stride_in="conv1", stem_pool="ceil"))
    open_upper_half(network)
    keep_lower_half(network)
    layer3 = torch.rand(2, 1024, 4, 4)
    optimiser = torch.optim.AdamW(pretraining.parameter_groups(pretraining.Model(network, [2], TINY), TINY))
    for _ in range(2):
        optimiser.zero_grad()
        network.layer4(layer3).square().mean().backward()
        optimiser.step()
    with torch.inference_mode():
        out = network.layer4(layer3)
    assert torch.allclose(out[:, :INHERITED], layer3[:, :, ::2, ::2], atol=1e-5)
    assert out[:, INHERITED:].any()


def test_a_run_is_resumed_and_gives_a_trunk(tree: Path, weights: Path, tmp_path: Path) -> None:
    said: list[str] = []
    first = pretraining.pretrain(tree, weights, tmp_path, TINY, say=said.append)
    start, _ = features.imagenet_network(weights)
    begun = json.loads((tmp_path / "pretraining.json").read_text())["curve"]
    elapsed = torch.load(tmp_path / pretraining.RESUME, weights_only=True)["progress"]["elapsed"]
    longer = replace(TINY, minutes=elapsed / 60 + 0.02)
    assert pretraining.pretrain(tree, weights, tmp_path, longer, say=said.append) == first
    curve = json.loads((tmp_path / "pretraining.json").read_text())["curve"]
    assert any("resumed at step" in line for line in said)
    assert curve[: len(begun)] == begun and curve[-1]["step"] > begun[-1]["step"] > 0

    trained, metadata = from_checkpoint(first)
    assert metadata.training["curve"] == curve
    frozen = [trained.conv1.weight, trained.layer1[0].conv1.weight, trained.layer3[0].bn1.running_mean]
    before = [start.conv1.weight, start.layer1[0].conv1.weight, start.layer3[0].bn1.running_mean]
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(frozen, before, strict=True))
    assert not torch.equal(trained.layer3[0].conv2.weight, start.layer3[0].conv2.weight.half().float())

    network, notes = features.trunk_network(first)
    assert notes.training["trunk"]["curve"] == curve
    patches = [(0, np.full((224, 224, 3), value, np.uint8), 1.0) for value in (50, 120, 200)]
    found = features.Trunk(network, notes)(iter(patches)).features
    with torch.inference_mode():
        pixels = torch.from_numpy(np.stack([patch for _, patch, _ in patches])).permute(0, 3, 1, 2)
        expected = network.layer4(network.trunk(pixels)).mean((2, 3)).numpy()
    assert np.allclose(found, expected, atol=1e-3 * max(1.0, np.abs(expected).max()))


def test_pretrain_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="--weights"):
        call_command("pretrain", data=tmp_path, weights=tmp_path, out=tmp_path / "out")
