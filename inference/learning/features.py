"""Cached outputs of the frozen trunk, so that everything behind it trains in minutes.

A view is a folder with ``features.npy``, the pooled layer-3 maps float32 (N, 1024), and ``rows.npy``, the index of
each patch's image.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from inference.engine.checkpoint import Metadata
from inference.engine.grid import Grid
from inference.engine.network import PatchNetwork, build, load_state
from inference.learning.augment import Strength, random_patch
from inference.learning.crossval import Patches
from inference.learning.dataset import Sample, read_rgb

TRUNK_FILE = "resnet50-imagenet-layers1to3.safetensors"
BATCH = 16


def imagenet_network(
    weights: Path, name: str = "histopath-resnet50", version: str = "0"
) -> tuple[PatchNetwork, Metadata]:
    """A network with the ImageNet trunk (He et al., CVPR 2016; strides in ``conv1``); layer 4 and head are fresh."""
    from safetensors.numpy import load_file

    metadata = Metadata(name=name, version=version, stride_in="conv1", stem_pool="ceil")
    network = build(metadata)
    load_state(network, load_file(weights / TRUNK_FILE), partial=True)
    return network, metadata


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


def auxiliary_patches(samples: Sequence[Sample], seed: int = 7) -> Iterator[tuple[int, np.ndarray]]:
    """Small images enlarged to a patch and restained, one patch each."""
    strength = Strength(blur=0, scale=0.1)
    for index, sample in enumerate(samples):
        enlarged = Image.fromarray(read_rgb(sample.path)).resize((224, 224), Image.Resampling.BICUBIC)
        yield index, random_patch(np.asarray(enlarged), np.random.default_rng((seed, index)), strength)


class PooledTrunk(nn.Module):
    """Pixels 0..255 (N, 3, 224, 224) to what a handed-on layer 4 pools: layer 3 at every second position, (N, 1024)."""

    def __init__(self, network: PatchNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network.trunk(pixels)[:, :, ::2, ::2].mean((2, 3))


def fused(module: nn.Module) -> nn.Module:
    """The module fused for inference at one batch shape: on a CPU a third faster than as it is."""
    module.eval()
    with torch.inference_mode(), warnings.catch_warnings():
        # Its successor torch.compile needs a C++ compiler, which a user's machine may not have.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        example = torch.zeros(BATCH, 3, 224, 224)
        traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
        return torch.jit.optimize_for_inference(traced)


def cache_view(folder: Path, patches: Iterator[tuple[int, np.ndarray]], trunk: nn.Module) -> Patches:
    """Pooled features of patches, kept in ``folder``; a finished view is read from there instead."""
    if (folder / "rows.npy").exists():
        return Patches(np.load(folder / "rows.npy"), np.load(folder / "features.npy"))
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[int] = []
    features: list[np.ndarray] = []
    batch: list[tuple[int, np.ndarray]] = []

    def flush() -> None:
        padded = [patch for _, patch in batch] + [batch[-1][1]] * (BATCH - len(batch))
        pixels = torch.from_numpy(np.stack(padded)).permute(0, 3, 1, 2).float().contiguous()
        with torch.inference_mode():
            features.append(trunk(pixels)[: len(batch)].numpy())
        rows.extend(index for index, _ in batch)
        batch.clear()

    for one in patches:
        batch.append(one)
        if len(batch) == BATCH:
            flush()
    if batch:
        flush()
    view = Patches(np.array(rows, dtype=np.int32), np.concatenate(features))
    np.save(folder / "features.npy", view.features)
    np.save(folder / "rows.npy", view.rows)  # last: its presence says that the view is whole
    return view
