"""Creates the INT8 form of a checkpoint, and compares INT8 or bf16 with fp32."""

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

#: Patches used for quantisation, from at most IMAGES_A_GROUP images per group, label and data set.
PATCHES = 3200
IMAGES_A_GROUP = 16
#: Labelled fields on which bf16 is compared, evenly spaced over the index.
BF16_FIELDS = 40

Say = Callable[[str], None]


def calibration_patches(samples: Sequence[Sample], seed: int = 0) -> list[Pixels]:
    """A random selection, over all groups, of patches uint8 (224, 224, 3) that the application would analyse."""
    images = training.capped(samples, IMAGES_A_GROUP, seed)
    patches = [patch for _, patch, _ in grid_patches(samples, images)]
    order = np.random.default_rng(seed).permutation(len(patches))
    return [patches[i] for i in order[:PATCHES]]


def slides(samples: Sequence[Sample]) -> Iterator[Labelled]:
    return (Labelled(read_rgb(one.path), one.label, one.group) for one in samples)


def optimise(
    checkpoint: Path, data: Path, weights: Path, cache: Path, folds: dict[str, int], fold: int, say: Say = print
) -> Record:
    """Write the INT8 form of a checkpoint and its record next to the checkpoint.

    The form is compared with fp32 on the demonstration images, on which no model is trained. To compare on more images,
    a model is trained by the same recipe without the groups of ``fold``, quantised and compared on these groups.
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
        what = f"held-out groups of fold {fold}, by a model trained without them"
        comparisons.append(quantise.compare(kept, slides(held), what))
    record = quantise.record(checkpoint, comparisons)
    record.write(checkpoint)
    return record


def compare_bf16(checkpoint: Path, data: Path, say: Say = print) -> Record:
    """Compare bf16 with fp32 and write the record next to the checkpoint.

    Rounding to bf16 does not depend on the training data, so training images are compared, too. Raises
    FileNotFoundError without the images.
    """
    samples = read_index(data)
    drawn = [samples[i] for i in np.linspace(0, len(samples) - 1, BF16_FIELDS).astype(int)]
    say("comparing bf16 with fp32")
    record = quantise.record(
        checkpoint,
        [
            quantise.compare(checkpoint, slides(read_demo(data)), "demonstration images", "bf16"),
            quantise.compare(checkpoint, slides(drawn), f"{BF16_FIELDS} training images", "bf16"),
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
    """A checkpoint trained by the recipe of ``shipped``, without the groups of ``fold``."""
    recipe = training.recipe_of(shipped)
    trunk = Trunk(*trunk_network(weights))
    learn, grid = training.cached_views(samples, trunk, cache, recipe, say)
    extra = training.auxiliary(data, trunk, cache, recipe, say)
    known = np.array([i for i, one in enumerate(samples) if folds[one.group] != fold])
    chosen = choose(samples, learn.of(known), grid.of(known), auxiliary=extra)
    return training.write_checkpoint(weights, chosen, shipped, out / f"fold-{fold}.safetensors")
