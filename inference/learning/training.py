"""From labelled images to a checkpoint with its out-of-fold record: the recipe of the bundled model."""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from inference.engine.checkpoint import Metadata, save
from inference.engine.network import PatchNetwork
from inference.learning.augment import Strength
from inference.learning.calibration import apply_platt, choose_thresholds, decided, fit_platt
from inference.learning.crossval import (
    Chosen,
    Patches,
    Prediction,
    choose,
    joined,
    laboratory,
    laboratory_left_out,
    learning_curve,
    out_of_fold,
    slides,
    summary,
)
from inference.learning.dataset import Sample, assert_no_demo, read_auxiliary
from inference.learning.evaluation import decisions
from inference.learning.features import (
    Trunk,
    auxiliary_patches,
    cache_view,
    grid_patches,
    random_patches,
    trunk_network,
)
from inference.learning.folds import FOLDS, assign_folds, extend_folds
from inference.learning.gate import fit_gate, other_statistics, real_statistics
from inference.learning.head import Auxiliary
from inference.learning.layer4 import INHERITED, bypasses_layer4, clear_closed_branches, close_upper_half, set_head
from inference.learning.metrics import equal_group_weight

Say = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """How a head is fitted to the features of a frozen trunk.

    For each of ``scales`` there is an augmented pass over the images with ``patches`` random patches of each image,
    zoomed by up to its exponential, at most ``per_group`` images of a group and label (the two largest groups hold four
    fifths of the benign images). Without ``tissue`` empty patches are learned from and count as much as others.
    ``features`` are those of ``layer3`` (which layer 4 hands on in its first half), ``layer4`` or ``both``.
    ``auxiliary`` is the weight of IDC patches as a share of the others', where the data has any.
    """

    scales: tuple[float, ...] = (0.35, 0.7)
    tissue: bool = True
    features: str = "both"
    patches: int = 4
    per_group: int = 24
    folds: int = FOLDS
    seed: int = 0
    auxiliary: float = 0.2
    strength: Strength = field(default_factory=Strength)

    @property
    def part(self) -> slice:
        return {"layer3": slice(INHERITED), "layer4": slice(INHERITED, None), "both": slice(None)}[self.features]


def capped(samples: Sequence[Sample], per_group: int, seed: int) -> list[int]:
    """Indices of at most ``per_group`` images of each dataset, label and group, drawn at random, ascending."""
    random = np.random.default_rng(seed)
    cells: dict[tuple[str, int, str], list[int]] = {}
    for index, sample in enumerate(samples):
        cells.setdefault((sample.dataset, sample.label, sample.group), []).append(index)
    return sorted(int(i) for cell in cells.values() for i in random.permutation(cell)[:per_group])


def cached_views(
    samples: Sequence[Sample], trunk: Trunk, cache: Path, recipe: Recipe, say: Say
) -> tuple[Patches, Patches]:
    """Features of the augmented patches to learn from, and of the patches as the product reads them."""
    folder, empty = cache / trunk.digest[:12], not recipe.tissue
    names = ("augmented-all", "grid-all") if empty else ("augmented", "grid")
    chosen = capped(samples, recipe.per_group, recipe.seed)
    views = []
    for view, scale in enumerate(recipe.scales, start=1):
        say(f"features of augmented view {view} of {len(recipe.scales)}")
        strength = replace(recipe.strength, scale=scale)
        patches = random_patches(samples, chosen, recipe.patches, view, strength, empty)
        views.append(cache_view(folder / f"{names[0]}-{view}-{scale}", patches, trunk))
    say("features of the grid patches")
    grid = cache_view(folder / names[1], grid_patches(samples, range(len(samples)), empty), trunk)
    return joined(views).only(recipe.part), grid.only(recipe.part)


def auxiliary(data: Path | None, trunk: Trunk, cache: Path, recipe: Recipe, say: Say) -> Auxiliary | None:
    """The IDC patches that lie beside the images; None without them or with no weight for them."""
    samples = read_auxiliary(data, seed=recipe.seed) if data and recipe.auxiliary else []
    if not samples:
        return None
    say(f"features of {len(samples)} IDC patches")
    patches = cache_view(cache / trunk.digest[:12] / "auxiliary", auxiliary_patches(samples), trunk).only(recipe.part)
    return Auxiliary(patches.features, np.array([samples[i].label for i in patches.rows]), recipe.auxiliary)


def train(
    samples: Sequence[Sample],
    weights: Path,
    out: Path,
    recipe: Recipe,
    version: str,
    say: Say = print,
    data: Path | None = None,
    known_folds: dict[str, int] | None = None,
) -> Path:
    """Cross-validate, fit on all groups, write ``predictions.csv``, ``folds.json`` and the checkpoint into ``out``.

    ``weights`` as ``features.trunk_network`` takes them; ``data`` is where auxiliary patches are looked for. Groups of
    ``known_folds`` keep their folds. With more than one laboratory, ``laboratories.csv`` holds the predictions of each
    by a model trained without it.
    """
    assert_no_demo(samples)
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    network, metadata = trunk_network(weights, version=version)
    if recipe.features != "both" and not bypasses_layer4(network):
        raise ValueError("Layer 4 of these weights does not hand layer 3 on, so both can't be told apart: use 'both'.")
    trunk = Trunk(network, metadata)
    training, grid = cached_views(samples, trunk, out / "cache", recipe, say)
    extra = auxiliary(data, trunk, out / "cache", recipe, say)
    del trunk
    folds = (
        extend_folds(samples, known_folds, recipe.folds)
        if known_folds
        else assign_folds(samples, recipe.folds, recipe.seed)
    )
    predictions = out_of_fold(samples, training, grid, folds, say, auxiliary=extra)
    write_predictions(out / "predictions.csv", predictions)
    (out / "folds.json").write_text(json.dumps(folds, indent=1, sort_keys=True) + "\n")
    for dataset in sorted({one.dataset for one in predictions}):
        say(f"{dataset}: " + " ".join(f"{k} {v:.3f}" for k, v in summary(predictions, dataset).items()))
    if len({laboratory(sample) for sample in samples}) > 1:
        write_predictions(out / "laboratories.csv", laboratory_left_out(samples, training, grid, say, extra))

    chosen = choose(samples, training, grid, recipe.seed, extra)
    curve = learning_curve(samples, training, grid, folds, chosen.strength, extra)
    (out / "learning.json").write_text(json.dumps([asdict(point) for point in curve], indent=1) + "\n")
    finish(network, chosen, recipe)
    say("domain gate")
    plain, varied = real_statistics(samples, recipe.seed)
    weight = slides(samples, np.arange(len(samples)))[2]
    metadata = replace(
        calibrated(metadata, predictions),
        domain=fit_gate(plain, varied, weight, other_statistics(data) if data else None),
        training=metadata.training
        | record(samples, recipe, time.monotonic() - started)
        | {"head_strength": chosen.strength, "auxiliary_patches": 0 if extra is None else len(extra.labels)},
    )
    path = out / f"{metadata.name}-v{version}.safetensors"
    digest = save(path, {name: value.numpy() for name, value in network.state_dict().items()}, metadata)
    say(f"{path}\nsha256 {digest}")
    return path


def finish(network: PatchNetwork, chosen: Chosen, recipe: Recipe) -> None:
    """Put a chosen head into the trunk's network; a layer 4 that the head does not use is closed and costs no time."""
    if recipe.features == "layer3":
        close_upper_half(network)
    set_head(network, chosen.head.weight, chosen.head.bias)
    clear_closed_branches(network)


def recipe_of(metadata: Metadata) -> Recipe:
    """The recipe that a checkpoint was made by. Raises ValueError where it was not this one."""
    kept = metadata.training.get("recipe")
    if isinstance(kept, dict) and "views" in kept:  # up to version 3: one zoom, no layer 4, no weighing by tissue
        kept = {name: value for name, value in kept.items() if name != "views"} | {
            "scales": [kept["strength"]["scale"]] * kept["views"],
            "features": "layer3",
            "tissue": False,
        }
    if not isinstance(kept, dict) or set(kept) != {item.name for item in fields(Recipe)}:
        raise ValueError(f"{metadata.name} {metadata.version} was not made by the recipe of frozen features.")
    return Recipe(**kept | {"strength": Strength(**kept["strength"]), "scales": tuple(kept["scales"])})


def write_checkpoint(weights: Path, chosen: Chosen, like: Metadata, out: Path) -> Path:
    """A checkpoint of the frozen trunk with a chosen head, calibration and cut points, all else as in ``like``."""
    network, metadata = trunk_network(weights, like.name, like.version)
    finish(network, chosen, recipe_of(like))
    metadata = replace(
        metadata,
        calibration=chosen.calibration,
        cut_low=chosen.cut_low,
        cut_high=chosen.cut_high,
        calibrated=True,
        domain=like.domain,
    )
    save(out, {name: value.numpy() for name, value in network.state_dict().items()}, metadata)
    return out


def calibrated(metadata: Metadata, predictions: Sequence[Prediction]) -> Metadata:
    """Metadata with calibration, cut points and figures from all out-of-fold predictions.

    ``benign_wrong`` and ``malignant_wrong`` are the shares of wrong verdicts of each kind in the largest data set,
    by the cut points of each fold's own training part, groups equal.
    """
    label = np.array([one.label for one in predictions], dtype=float)
    raw = np.array([one.raw for one in predictions])
    weight = equal_group_weight(label, np.array([one.group for one in predictions]))
    calibration = {name: round(value, 6) for name, value in fit_platt(raw, label, weight).items()}
    p = apply_platt(raw, calibration)
    low, high = choose_thresholds(p, label, weight)
    share, error = decided(p, label, weight, low, high)
    largest = Counter(one.dataset for one in predictions).most_common(1)[0][0]
    (sides,) = (one for one in decisions(predictions) if one.dataset == largest)
    wrong = {"benign_wrong": round(sides.benign_error, 4), "malignant_wrong": round(sides.malignant_error, 4)}
    figures = {
        dataset: {name: round(value, 4) for name, value in summary(predictions, dataset).items()}
        for dataset in sorted({one.dataset for one in predictions})
    }
    return replace(
        metadata,
        calibration=calibration,
        cut_low=low,
        cut_high=high,
        calibrated=True,
        metrics={"out_of_fold": figures, "decided_share": round(share, 4), "decided_error": round(error, 4)} | wrong,
    )


def record(samples: Sequence[Sample], recipe: Any, seconds: float) -> dict[str, object]:
    """What the checkpoint remembers of its training."""
    return {
        "data": dict(Counter(sample.dataset for sample in samples)),
        "groups": sorted({sample.group for sample in samples}),
        "recipe": asdict(recipe),
        "start": "ResNet-50, ImageNet, stem and layers 1 to 3 (He et al. 2016, MIT)",
        "date": datetime.now(UTC).date().isoformat(),
        "minutes": round(seconds / 60, 1),
    }


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    names = [item.name for item in fields(Prediction)]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for one in predictions:
            values = asdict(one) | {"raw": f"{one.raw:.8g}", "p": f"{one.p:.8g}"}
            writer.writerow([values[name] for name in names])


def read_predictions(path: Path) -> list[Prediction]:
    """Raises FileNotFoundError where there are none, ValueError for a file of another layout."""
    kinds = {"label": int, "fold": int, "raw": float, "p": float, "cut_low": float, "cut_high": float}
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != [item.name for item in fields(Prediction)]:
            raise ValueError(f"{path} is no table of predictions")
        return [Prediction(**{k: kinds.get(k, str)(v) for k, v in row.items()}) for row in reader]
