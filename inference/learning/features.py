"""Cached outputs of the frozen trunk, so that everything behind it trains in minutes.

A view is a folder of memory maps over the same patches: ``maps`` the layer-3 maps float16 (N, 14, 14, 1024),
``pooled`` the mean and standard deviation of layers 1 to 3 float32 (N, 2 * 1792), ``teacher`` the DenseNet's last
maps float16 (N, 7, 7, 1024) where a teacher took part, and ``rows`` the image index of each patch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import densenet121

from inference.engine.checkpoint import Metadata
from inference.engine.grid import Grid
from inference.engine.network import PatchNetwork, build, load_state
from inference.learning.augment import Strength, random_patch
from inference.learning.dataset import Sample, read_rgb

TRUNK_FILE = "resnet50-imagenet-layers1to3.safetensors"
TEACHER_FILE = "densenet121-imagenet.safetensors"
BATCH = 16


@dataclass(frozen=True)
class View:
    """Memory maps of one cached view; ``teacher`` is None where none took part."""

    rows: np.ndarray
    maps: np.ndarray
    pooled: np.ndarray
    teacher: np.ndarray | None


def open_view(folder: Path) -> View:
    """Raises FileNotFoundError for a view that was never finished."""
    rows = np.load(folder / "rows.npy")
    teacher = folder / "teacher.npy"
    return View(
        rows=rows,
        maps=np.load(folder / "maps.npy", mmap_mode="r"),
        pooled=np.load(folder / "pooled.npy", mmap_mode="r"),
        teacher=np.load(teacher, mmap_mode="r") if teacher.exists() else None,
    )


def imagenet_network(weights: Path, name: str = "histopath-resnet50", version: str = "0") -> tuple[PatchNetwork, Metadata]:
    """A network with the ImageNet trunk; layer 4 and head are fresh."""
    from safetensors.numpy import load_file

    metadata = Metadata(name=name, version=version, stride_in="conv1", stem_pool="ceil")
    network = build(metadata)
    load_state(network, load_file(weights / TRUNK_FILE), partial=True)
    return network, metadata


def teacher_network(weights: Path) -> nn.Module:
    """The DenseNet-121's feature extractor: normalised pixels (N, 3, 224, 224) to (N, 1024, 7, 7), all >= 0."""
    from safetensors.torch import load_file

    network = densenet121(weights=None)
    state = {name: value.float() for name, value in load_file(weights / TEACHER_FILE).items()}
    network.load_state_dict(state, strict=False)
    return nn.Sequential(network.features, nn.ReLU()).eval()


def grid_patches(samples: Sequence[Sample], indices: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Every patch that the product would read, as (image index, uint8 (224, 224, 3))."""
    for index in indices:
        pixels = read_rgb(samples[index].path)
        grid = Grid(pixels.shape[1], pixels.shape[0])
        padded = grid.pad(pixels)
        for position in range(len(grid)):
            patch = np.empty((224, 224, 3), np.uint8)
            grid.cut(padded, position, patch)
            yield index, patch


def random_patches(
    samples: Sequence[Sample], indices: Sequence[int], count: int, seed: int, strength: Strength
) -> Iterator[tuple[int, np.ndarray]]:
    """``count`` augmented patches of each image, the same for the same seed."""
    for index in indices:
        pixels = read_rgb(samples[index].path)
        random = np.random.default_rng((seed, index))
        for _ in range(count):
            yield index, random_patch(pixels, random, strength)


def _statistics(layers: Sequence[Tensor]) -> Tensor:
    return torch.cat([f(layer) for layer in layers for f in (lambda x: x.mean((2, 3)), lambda x: x.std((2, 3)))], 1)


class TrunkOutputs(nn.Module):
    """Pixels 0..255 (N, 3, 224, 224) to the layer-3 map and the statistics of layers 1 to 3."""

    def __init__(self, network: PatchNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        n = self.network
        x = n.maxpool(n.relu(n.bn1(n.conv1((pixels - n.mean) / n.std))))
        one = n.layer1(x)
        two = n.layer2(one)
        three = n.layer3(two)
        return three, _statistics([one, two, three])


def cache_view(
    folder: Path, patches: Iterator[tuple[int, np.ndarray]], count: int, trunk: nn.Module, teacher: nn.Module | None
) -> View:
    """Write a view of ``count`` patches; a finished one is opened as it is."""
    if (folder / "rows.npy").exists():
        return open_view(folder)
    folder.mkdir(parents=True, exist_ok=True)
    from numpy.lib.format import open_memmap

    maps = open_memmap(folder / "maps.npy", "w+", np.float16, (count, 14, 14, 1024))
    targets = open_memmap(folder / "teacher.npy", "w+", np.float16, (count, 7, 7, 1024)) if teacher else None
    pooled = np.empty((count, 2 * 1792), np.float32)
    rows = np.empty(count, np.int32)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) * 255 for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    done = 0
    while done < count:
        batch = [next(patches) for _ in range(min(BATCH, count - done))]
        here = slice(done, done + len(batch))
        rows[here] = [index for index, _ in batch]
        padded = [patch for _, patch in batch] + [batch[-1][1]] * (BATCH - len(batch))
        pixels = torch.from_numpy(np.stack(padded)).permute(0, 3, 1, 2).float().contiguous()
        with torch.inference_mode():
            layer3, statistics = trunk(pixels)
            maps[here] = layer3[: len(batch)].permute(0, 2, 3, 1).half().numpy()
            pooled[here] = statistics[: len(batch)].numpy()
            if teacher is not None and targets is not None:
                out = teacher((pixels - mean) / std)
                targets[here] = out[: len(batch)].permute(0, 2, 3, 1).half().numpy()
        done += len(batch)
    maps.flush()
    np.save(folder / "pooled.npy", pooled)
    np.save(folder / "rows.npy", rows)
    return open_view(folder)


def traced(module: nn.Module) -> nn.Module:
    """The module fused for inference at one batch shape; about a third faster on a CPU."""
    module.eval()
    with torch.inference_mode():
        example = torch.zeros(BATCH, 3, 224, 224)
        return torch.jit.optimize_for_inference(torch.jit.trace(module, example, check_trace=False))
