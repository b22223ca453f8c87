"""Cached features of the frozen trunk, so that a head trains in minutes.

A view is a folder with ``features.npy``, the pooled outputs of layer 4, float32 (N, 2048); ``rows.npy``, the image
index of each patch; and ``tissue.npy``, the share of tissue of each patch. Patches without tissue are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from inference.engine import graph, tissue
from inference.engine.checkpoint import Metadata
from inference.engine.grid import Grid
from inference.engine.network import FEATURES, PatchNetwork, build, from_checkpoint, load_state
from inference.engine.runtime import BATCH_SIZE, available_cores
from inference.engine.verdict import has_tissue
from inference.learning.augment import Strength, random_patch
from inference.learning.crossval import Patches
from inference.learning.dataset import Sample, read_rgb
from inference.learning.layer4 import bypass_layer4

TRUNK_FILE = "resnet50-imagenet-layers1to3.safetensors"
#: (index of the image, pixels uint8 (224, 224, 3), share of tissue).
Cut = tuple[int, np.ndarray, float]


def imagenet_network(
    weights: Path, name: str = "histopath-resnet50", version: str = "0"
) -> tuple[PatchNetwork, Metadata]:
    """A network with the ImageNet trunk (He et al., CVPR 2016; strides in ``conv1``); layer 4 and head are random."""
    from safetensors.numpy import load_file

    metadata = Metadata(name=name, version=version, stride_in="conv1", stem_pool="ceil")
    network = build(metadata)
    load_state(network, load_file(weights / TRUNK_FILE), partial=True)
    return network, metadata


def trunk_network(weights: Path, name: str = "histopath-resnet50", version: str = "0") -> tuple[PatchNetwork, Metadata]:
    """The network to whose pooled layer 4 a head is fitted.

    ``weights`` is a checkpoint of ``pretrain`` or of a finished model, or the folder of the ImageNet weights, with
    which layer 4 is bypassed. The metadata keeps the provenance of the trunk as ``training["trunk"]``.
    """
    if not weights.is_file():
        network, metadata = imagenet_network(weights, name, version)
        bypass_layer4(network)
        return network, metadata
    network, found = from_checkpoint(weights)
    provenance = found.training.get("trunk", found.training)
    return network, Metadata(
        name=name,
        version=version,
        stride_in=found.stride_in,
        stem_pool=found.stem_pool,
        mean=found.mean,
        std=found.std,
        training={"trunk": provenance},
    )


class Trunk:
    """Computes the pooled outputs of layer 4, with the application's graph and runtime, in fp32."""

    def __init__(self, network: PatchNetwork, metadata: Metadata, threads: int | None = None) -> None:
        import openvino as ov
        from openvino import opset14 as ops

        # Checkpoints store convolutions in fp16, so the head is fitted to the features of the rounded weights.
        arrays = {
            name: value.numpy().astype(np.float16) if value.ndim == 4 else value.numpy()
            for name, value in network.state_dict().items()
        }
        content = hashlib.sha256()
        for name in sorted(arrays):
            if not name.startswith("fc."):
                content.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
        #: SHA-256 of the weights without the head; it identifies the trunk.
        self.digest = content.hexdigest()
        model = graph.build(arrays, metadata, BATCH_SIZE)
        nodes = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
        pooled = ops.reduce_mean(nodes[graph.HEAD].input_value(0), np.array([2, 3]), keep_dims=False)
        cores = threads or available_cores()
        config = {
            "NUM_STREAMS": cores,
            "INFERENCE_NUM_THREADS": cores,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        compiled = ov.Core().compile_model(ov.Model([pooled], model.get_parameters(), "trunk"), "CPU", config)
        self._queue = ov.AsyncInferQueue(compiled, 2 * cores)

    def __call__(self, patches: Iterator[Cut]) -> Patches:
        """Features of all patches, in the order of ``patches``."""
        rows: list[int] = []
        shares: list[float] = []
        found: dict[int, np.ndarray] = {}

        def keep(request: Any, number: int) -> None:
            found[number] = np.array(request.get_output_tensor(0).data)

        self._queue.set_callback(keep)
        batch: list[np.ndarray] = []
        started = 0
        for index, pixels, share in patches:
            rows.append(index)
            shares.append(share)
            batch.append(pixels)
            if len(batch) == BATCH_SIZE:
                self._queue.start_async([np.stack(batch)], started)
                started, batch = started + 1, []
        if batch:
            self._queue.start_async([np.stack(batch + batch[-1:] * (BATCH_SIZE - len(batch)))], started)
        self._queue.wait_all()
        features = [found[number] for number in sorted(found)]
        joined = np.concatenate(features)[: len(rows)] if features else np.empty((0, FEATURES), np.float32)
        return Patches(np.array(rows, dtype=np.int32), joined, np.array(shares, dtype=np.float32))


def grid_patches(samples: Sequence[Sample], indices: Sequence[int], empty: bool = False) -> Iterator[Cut]:
    """Every patch that the application would run; with ``empty`` also those without tissue, all with weight 1."""
    for index in indices:
        pixels = read_rgb(samples[index].path)
        grid = Grid(pixels.shape[1], pixels.shape[0])
        padded, shares = grid.pad(pixels), tissue.shares(pixels, grid)
        if empty:
            shares = np.ones_like(shares)
        for position in np.flatnonzero(has_tissue(shares)).tolist():
            patch = np.empty((224, 224, 3), np.uint8)
            grid.cut(padded, position, patch)
            yield index, patch, float(shares[position])


def random_patches(
    samples: Sequence[Sample], indices: Sequence[int], count: int, seed: int, strength: Strength, empty: bool = False
) -> Iterator[Cut]:
    """``count`` augmented patches of each image, deterministic for a seed. With ``empty`` False they are chosen to show
    tissue."""
    for index in indices:
        pixels = read_rgb(samples[index].path)
        stained = None if empty else tissue_mask(pixels)
        random = np.random.default_rng((seed, index))
        for _ in range(count):
            yield index, random_patch(pixels, random, strength, stained=stained), 1.0


def tissue_mask(pixels: np.ndarray) -> np.ndarray:
    """Stained pixels of an image uint8 (H, W, 3), as in :mod:`inference.engine.tissue`: bool (H / 4, W / 4)."""
    small = np.asarray(Image.fromarray(pixels).reduce(tissue.REDUCTION))
    return tissue.total_density(small, tissue.relative_density(small)) > tissue.STAINED


def auxiliary_patches(samples: Sequence[Sample], seed: int = 7) -> Iterator[Cut]:
    """One patch per image: small images, enlarged to the size of a patch and restained."""
    strength = Strength(blur=0, scale=0.1)
    for index, sample in enumerate(samples):
        enlarged = Image.fromarray(read_rgb(sample.path)).resize((224, 224), Image.Resampling.BICUBIC)
        yield index, random_patch(np.asarray(enlarged), np.random.default_rng((seed, index)), strength), 1.0


def cache_view(folder: Path, patches: Iterator[Cut], trunk: Trunk) -> Patches:
    """Features of patches, cached in ``folder``: a complete view is loaded from there."""
    parts = ("rows", "features", "tissue")
    if not (folder / "tissue.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        view = trunk(patches)
        for part in parts:  # tissue last: its presence marks the view as complete
            np.save(folder / f"{part}.npy", getattr(view, part))
    return Patches(*(np.load(folder / f"{part}.npy") for part in parts))
