"""The INT8 form of a checkpoint, and the comparison with fp32 on images that the compared model has not learnt."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from inference.engine.checkpoint import Metadata, read_metadata
from inference.engine.quantised import Record
from inference.learning import quantise, training
from inference.learning.crossval import choose
from inference.learning.dataset import Sample, read_demo, read_index, read_rgb
from inference.learning.features import Trunk, grid_patches, trunk_network
from inference.learning.quantise import Labelled, Pixels

#: Patches that a quantisation sees, from at most so many images of a group, label and dataset.
PATCHES = 3200
IMAGES_A_GROUP = 16
#: Labelled fields that bf16 is compared on, evenly drawn.
BF16_FIELDS = 40

Say = Callable[[str], None]


def calibration_patches(samples: Sequence[Sample], seed: int = 0) -> list[Pixels]:
    """Patches uint8 (224, 224, 3) as the product reads them, drawn at random from all groups."""
    images = training.capped(samples, IMAGES_A_GROUP, seed)
    patches = [patch for _, patch, _ in grid_patches(samples, images)]
    order = np.random.default_rng(seed).permutation(len(patches))
    return [patches[i] for i in order[:PATCHES]]


def slides(samples: Sequence[Sample]) -> Iterator[Labelled]:
    return (Labelled(read_rgb(one.path), one.label, one.group) for one in samples)


def optimise(
    checkpoint: Path, data: Path, weights: Path, cache: Path, folds: dict[str, int], fold: int, say: Say = print
) -> Record:
    """Quantise ``checkpoint`` beside itself and write the record of how it compares.

    The shipped model is compared on the demonstration images, which no model has learnt. The rest of the proof is a
    model of the same recipe that has not seen the groups of ``fold``: it is made, quantised and compared on them.
    Raises FileNotFoundError without the images, ValueError for a checkpoint of another recipe.
    """
    samples = [one for one in read_index(data) if one.group in folds]
    metadata, _ = read_metadata(checkpoint)
    say("quantising")
    quantise.quantise(checkpoint, calibration_patches(samples))
    comparisons = [quantise.compare(checkpoint, slides(read_demo(data)), "demonstration images")]
    known = [one for one in samples if folds[one.group] != fold]
    held = [one for one in samples if folds[one.group] == fold]
    with tempfile.TemporaryDirectory(prefix="histopath-fold-") as folder:
        kept = fold_checkpoint(samples, data, weights, cache, folds, fold, metadata, Path(folder), say)
        say(f"quantising the model of fold {fold}")
        quantise.quantise(kept, calibration_patches(known))
        what = f"held-out groups of fold {fold}, by the model that has not learnt them"
        comparisons.append(quantise.compare(kept, slides(held), what))
    record = quantise.record(checkpoint, comparisons)
    record.write(checkpoint)
    return record


def compare_bf16(checkpoint: Path, data: Path, say: Say = print) -> Record:
    """Compare bf16 with fp32 and write the record beside the checkpoint.

    bf16 rounds alike whatever a model has learnt, so fields of the training data are compared too. Raises
    FileNotFoundError without the images.
    """
    samples = read_index(data)
    drawn = [samples[i] for i in np.linspace(0, len(samples) - 1, BF16_FIELDS).astype(int)]
    say("comparing bf16 with fp32")
    record = quantise.record(
        checkpoint,
        [
            quantise.compare(checkpoint, slides(read_demo(data)), "demonstration images", "bf16"),
            quantise.compare(checkpoint, slides(drawn), f"{BF16_FIELDS} labelled fields, learnt from", "bf16"),
        ],
        "bf16",
    )
    record.write(checkpoint)
    return record


def fold_checkpoint(
    samples: Sequence[Sample],
    data: Path,
    weights: Path,
    cache: Path,
    folds: dict[str, int],
    fold: int,
    shipped: Metadata,
    out: Path,
    say: Say = print,
) -> Path:
    """The checkpoint that the shipped model's recipe gives without the groups of ``fold``."""
    recipe = training.recipe_of(shipped)
    trunk = Trunk(*trunk_network(weights))
    learn, grid = training.cached_views(samples, trunk, cache, recipe, say)
    extra = training.auxiliary(data, trunk, cache, recipe, say)
    known = np.array([i for i, one in enumerate(samples) if folds[one.group] != fold])
    chosen = choose(samples, learn.of(known), grid.of(known), auxiliary=extra)
    return training.write_checkpoint(weights, chosen, shipped, out / f"fold-{fold}.safetensors")
