"""The BACH set of ICIAR 2018 (Aresta et al., *Medical Image Analysis* 2019), for those who hold it and its licence.

Folders ``Benign``, ``InSitu``, ``Invasive`` and ``Normal`` of TIFF fields 2048x1536 at 0.42 µm a pixel. Licence
CC BY-NC-ND 4.0: the bundled model has not seen it. The public part does not name patients, so every image is its own
group; figures on it may flatter a model that was trained on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from inference.engine.predictor import Job, Predictor
from inference.learning.dataset import Sample, read_rgb
from inference.learning.metrics import figures, intervals

DATASET = "bach"
FOLDERS = {"Benign": 0, "Normal": 0, "InSitu": 1, "Invasive": 1}
SUFFIXES = (".tif", ".tiff", ".png", ".jpg")


class BachError(ValueError):
    """The folder is not laid out as the BACH set."""


def read_bach(root: Path) -> list[Sample]:
    """All images of ``root`` or of its subfolder ``Photos``, in the order of their names. Raises BachError."""
    home = root / "Photos" if (root / "Photos").is_dir() else root
    missing = [name for name in FOLDERS if not (home / name).is_dir()]
    if missing:
        raise BachError(f"{root} is not the BACH set: it has no folder {', '.join(missing)}")
    samples = [
        Sample(path, f"bach/{folder}/{path.name}", DATASET, label, folder, f"bach-{folder}-{path.stem}", "0.42 um")
        for folder, label in FOLDERS.items()
        for path in sorted((home / folder).iterdir())
        if path.suffix.lower() in SUFFIXES
    ]
    if {one.label for one in samples} != {0, 1}:
        raise BachError(f"{root} holds no images of both labels")
    return samples


def measure(predictor: Predictor, samples: Sequence[Sample], replicates: int = 1000) -> list[str]:
    """Lines with figures of a model as the product applies it, and each folder's share called right and refused."""
    jobs = (Job(number, partial(read_rgb, one.path)) for number, one in enumerate(samples))
    p = np.full(len(samples), np.nan)
    for outcome in predictor.run(jobs):
        if outcome.error is not None:
            raise outcome.error
        assert outcome.prediction is not None
        if outcome.prediction.domain.in_domain:
            p[int(str(outcome.job.key))] = outcome.prediction.verdict.probability_malignant
    label = np.array([one.label for one in samples], dtype=float)
    read = np.isfinite(p)
    lines = [f"{len(samples)} images, {int((~read).sum())} called out of domain and left out of the figures"]
    if len(set(label[read].tolist())) == 2:
        group = np.array([one.group for one in samples])
        values, bounds = figures(label[read], p[read]), intervals(label[read], p[read], group[read], None, replicates)
        lines += [f"{k}: {v:.3f} ({bounds[k][0]:.2f} to {bounds[k][1]:.2f})" for k, v in values.items()]
    for folder in FOLDERS:
        own = np.array([one.subtype == folder for one in samples])
        right = (p[own & read] >= 0.5) == (label[own & read] == 1)
        share = f"{right.mean():.2f} called right" if len(right) else "none read"
        lines.append(f"{folder}: {int(own.sum())} images, {int((own & ~read).sum())} out of domain, {share}")
    return lines
