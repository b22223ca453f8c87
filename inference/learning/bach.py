"""The BACH set of ICIAR 2018 (Aresta et al., *Medical Image Analysis* 2019), for users who have accepted its licence.

Folders ``Benign``, ``InSitu``, ``Invasive`` and ``Normal`` with TIFF fields of 2048x1536 pixels at 0.42 µm per pixel.
Because of the licence, CC BY-NC-ND 4.0, the bundled model was not trained on it. The public part does not identify
patients, so every image is a group of its own; metrics of a model that was trained on BACH may be too optimistic.
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
    """The folder does not have the layout of the BACH set."""


def read_bach(root: Path) -> list[Sample]:
    """All images in ``root`` or its subfolder ``Photos``, sorted by name. Label 1: in situ and invasive carcinoma.

    Raises BachError.
    """
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
        raise BachError(f"{root} does not contain images of both labels")
    return samples


def measure(predictor: Predictor, samples: Sequence[Sample], replicates: int = 1000) -> list[str]:
    """Metrics of a model as the application uses it, and the results for each folder, as lines of text."""
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
    lines = [f"{len(samples)} images, {int((~read).sum())} of them out of domain and not in the metrics"]
    if len(set(label[read].tolist())) == 2:
        group = np.array([one.group for one in samples])
        values, bounds = figures(label[read], p[read]), intervals(label[read], p[read], group[read], None, replicates)
        lines += [f"{k}: {v:.3f} ({bounds[k][0]:.2f} to {bounds[k][1]:.2f})" for k, v in values.items()]
    for folder in FOLDERS:
        own = np.array([one.subtype == folder for one in samples])
        right = (p[own & read] >= 0.5) == (label[own & read] == 1)
        share = f"{right.mean():.2f} correct" if len(right) else "none in domain"
        lines.append(f"{folder}: {int(own.sum())} images, {int((own & ~read).sum())} out of domain, {share}")
    return lines
