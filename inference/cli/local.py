"""Prediction on this machine, with the engine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inference.engine import patchmap, results, runtime
from inference.engine.checkpoint import CheckpointError, read_metadata
from inference.engine.image import ImageError, decode
from inference.engine.predictor import Job, Outcome, Prediction, Predictor
from inference.engine.verdict import case_verdict

from .arguments import Task, readable

#: Called with images done, total images, and patches done and total patches of the current image.
Progress = Callable[[int, int, int, int], None]


#: A file, and the page of it where all pages are taken.
_Source = tuple[Path, int | None]


def newest_model(folder: Path) -> Path:
    """The default checkpoint, which is the last by file name. Raises :class:`CheckpointError` if there is none."""
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise CheckpointError("missing", f"There is no checkpoint (*.safetensors) in {folder}; set --model.")
    return found[-1]


def predict(task: Task, model_dir: Path, progress: Progress) -> dict[str, Any]:
    """The result in the API's format, for a single image or a folder; failed images are listed in ``errors``.

    If no image succeeds, the result is only ``{"errors": [...]}``. Raises :class:`CheckpointError`.
    """
    path = task.model or newest_model(model_dir)
    metadata, sha256 = read_metadata(path)
    loaded = runtime.load(path, task.device, task.threads)
    model = results.model(metadata.name, metadata.version, sha256, loaded.name, metadata.calibrated)
    names = _names(task.images)
    sources = [(image, page) for image in task.images for page in (_pages(image) if task.all_pages else [None])]
    jobs = [Job(source, partial(decode, source[0], page=source[1]), task.overlap) for source in sources]
    images: dict[_Source, dict[str, Any]] = {}
    errors: list[dict[str, str]] = []
    ended, started = 0, time.perf_counter()

    def report(job: Job, done: int, total: int) -> None:
        progress(ended, len(jobs), done, total)

    for outcome in Predictor(loaded).run(jobs, report):
        ended += 1
        source: _Source = outcome.job.key  # type: ignore[assignment]  # the key of these jobs
        name = names[source[0]] + (f" (page {source[1]})" if source[1] else "")
        if outcome.prediction is None:
            errors.append(_error(name, outcome))
            continue
        images[source] = {"filename": name, **_image(outcome.prediction, task.overlap, metadata, model)}
        if task.map_path and outcome.prediction.verdict.verdict != "out_of_domain":
            task.map_path.write_bytes(_map(outcome.prediction))
    ordered = [images[source] for source in sources if source in images]
    if not ordered or not task.is_folder:
        return ordered[0] if ordered else {"errors": errors}
    inside = [one["probabilities"]["malignant"] for one in ordered if one["verdict"] != "out_of_domain"]
    whole = case_verdict(inside, metadata.cut_low, metadata.cut_high)
    answer = results.folder(
        verdict=whole.verdict,
        confidence=whole.confidence,
        malignant=whole.probability_malignant,
        cut_points=(metadata.cut_low, metadata.cut_high),
        images=ordered,
        errors=errors,
        seconds=time.perf_counter() - started,
    )
    return {**answer, "verdict": whole.verdict, "model": model}


def _names(images: list[Path]) -> dict[Path, str]:
    """The name of each image: its path relative to their common folder."""
    common = os.path.commonpath([image.absolute().parent for image in images])
    return {image: readable(os.path.relpath(image.absolute(), common)) for image in images}


def _pages(image: Path) -> Sequence[int | None]:
    """The pages that are pictures of their own; one that is none where the file has a single one."""
    try:
        return decode(image, page=0).pages or [None]
    except (ImageError, OSError):
        # It is reported where it is analysed.
        return [None]


def _error(name: str, outcome: Outcome) -> dict[str, str]:
    error = outcome.error
    if isinstance(error, ImageError):
        return {"filename": name, "code": error.code, "reason": str(error)}
    return {"filename": name, "code": "error", "reason": f"can't be read ({error})"}


def _image(prediction: Prediction, overlap: float, metadata: Any, model: dict[str, Any]) -> dict[str, Any]:
    found = prediction.verdict
    return results.image(
        verdict=found.verdict,
        confidence=found.confidence,
        malignant=found.probability_malignant,
        raw_malignant=found.raw_malignant,
        patches=len(prediction.grid),
        empty_patches=found.empty_patches,
        benign_patches=found.benign_patches,
        malignant_patches=found.malignant_patches,
        cut_points=(metadata.cut_low, metadata.cut_high),
        warnings=found.warnings,
        overlap=overlap,
        seconds=prediction.seconds,
        model=model,
    )


def _map(prediction: Prediction) -> bytes:
    return patchmap.render(patchmap.surface(prediction.grid, np.asarray(prediction.probabilities[:, 1])))
