"""The method of the demo that this project replaces, as the reference for ``manage.py benchmark``.

It runs fp32 in eager mode with batches of 16 and dynamic INT8 for the linear layer only, and converts each patch to a
normalised float tensor separately. It reads the patches of our grid, so that both methods do the same work.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from django.conf import settings
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms

from cases.benchmark.peak import best
from inference.engine.grid import PATCH, Grid
from inference.engine.network import from_checkpoint

BATCH = 16


class Baseline:
    """Predicts one image at a time. ``path`` is one of our checkpoints."""

    def __init__(self, path: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        network, metadata = from_checkpoint(path)
        quantise: Any = torch.ao.quantization.quantize_dynamic
        self._network = quantise(network, {torch.nn.Linear}, dtype=torch.qint8)
        self._transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(metadata.mean, metadata.std)])
        self._mean = torch.tensor(metadata.mean).view(1, 3, 1, 1)
        self._std = torch.tensor(metadata.std).view(1, 3, 1, 1)

    def infer(self, tensors: torch.Tensor) -> NDArray[np.float32]:
        """Probabilities float32 (N, 2) of normalised float tensors (N, 3, 224, 224)."""
        # Our network normalises its input, so the normalisation of the method's transform is undone here.
        pixels = (tensors * self._std + self._mean) * 255
        with torch.no_grad():
            layer3 = self._network.trunk(pixels)
            logits = self._network.fc(self._network.layer4(layer3).mean((2, 3)))
            return torch.softmax(logits, dim=1).numpy()

    def prepare(self, patches: Iterable[Image.Image | NDArray[np.uint8]]) -> list[torch.Tensor]:
        """Normalised float tensors of shape (up to 16, 3, 224, 224). Patches are images or uint8 (224, 224, 3)."""
        tensors = [self._transform(patch) for patch in patches]
        return [torch.stack(tensors[at : at + BATCH]) for at in range(0, len(tensors), BATCH)]

    def predict(self, path: Path) -> NDArray[np.float32]:
        """Patch probabilities float32 (N, 2) of an image file."""
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        grid = Grid(image.width, image.height)
        patches = [image.crop((int(x), int(y), int(x) + PATCH, int(y) + PATCH)) for x, y in grid.positions]
        return np.concatenate([self.infer(batch) for batch in self.prepare(patches)])


def measure(path: Path, threads: int, images: Sequence[Path], patches: int) -> dict[str, float]:
    """``patches_per_second`` of the network alone, and seconds for one image and for all images.

    Measured in a separate process, because earlier computations of a process change its memory layout and speed.
    """
    command = [sys.executable, "-m", "cases.benchmark.baseline", str(path), str(threads), str(patches)]
    done = subprocess.run(
        [*command, *map(str, images)], cwd=settings.BASE_DIR, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _main(path: str, threads: str, patches: str, *images: str) -> None:
    baseline = Baseline(Path(path), int(threads))
    pixels = np.random.default_rng(0).integers(0, 256, (int(patches), PATCH, PATCH, 3), dtype=np.uint8)
    batches = baseline.prepare(pixels)
    paths = [Path(image) for image in images]
    found = {
        "patches_per_second": int(patches) / best(lambda: [baseline.infer(batch) for batch in batches]),
        "one_image_seconds": best(lambda: baseline.predict(paths[0])),
        "all_images_seconds": best(lambda: [baseline.predict(image) for image in paths], times=1),
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    _main(*sys.argv[1:])
