"""Splits by group: no group is on both sides, even if its images come from several data sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from inference.learning.dataset import Sample, assert_disjoint, assert_no_demo

FOLDS = 5


def stratum(samples: Sequence[Sample], group: str) -> str:
    """The stratum of a group: ``ucsb``, whose groups have both labels, or the label of a BreakHis group."""
    own = [sample for sample in samples if sample.group == group]
    if any(sample.dataset == "ucsb" for sample in own):
        return "ucsb"
    return "malignant" if Counter(sample.label for sample in own).most_common(1)[0][0] else "benign"


def assign_folds(samples: Sequence[Sample], count: int = FOLDS, seed: int = 0) -> dict[str, int]:
    """Fold 0..count-1 of each group, stratified by label and assigned from the largest group to the smallest.

    Each round of ``count`` groups is assigned in a random order, which balances groups and images over the folds.
    """
    assert_no_demo(samples)
    random = np.random.default_rng(seed)
    sizes = Counter(sample.group for sample in samples)
    strata: dict[str, list[str]] = {}
    for group in sorted(sizes):
        strata.setdefault(stratum(samples, group), []).append(group)
    folds: dict[str, int] = {}
    load = np.zeros(count)
    for name in sorted(strata):
        groups = sorted(strata[name], key=lambda group: (-sizes[group], group))
        for start in range(0, len(groups), count):
            # The folds with the fewest groups so far get the largest groups of the round.
            order = np.lexsort((random.random(count), load))
            for group, fold in zip(groups[start : start + count], order, strict=False):
                folds[group] = int(fold)
                load[fold] += 1
    return folds


def extend_folds(samples: Sequence[Sample], folds: dict[str, int], count: int = FOLDS) -> dict[str, int]:
    """Folds in which known groups stay where they are. New groups, the largest first, go to the fold with the fewest
    groups of their stratum; ties go to the fold with the fewest groups, then to the first."""
    assert_no_demo(samples)
    sizes = Counter(sample.group for sample in samples)
    kinds = {group: stratum(samples, group) for group in sizes}
    known = {group: folds[group] for group in sizes if group in folds}
    for group in sorted(set(sizes) - set(known), key=lambda group: (-sizes[group], group)):
        alike = Counter(fold for other, fold in known.items() if kinds[other] == kinds[group])
        load = Counter(known.values())
        known[group] = min(range(count), key=lambda fold: (alike[fold], load[fold], fold))
    return known


def split(samples: Sequence[Sample], folds: dict[str, int], test_fold: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (training, test) of one fold. Raises LeakError if a group is on both sides."""
    fold_of = np.array([folds[sample.group] for sample in samples])
    training, test = np.flatnonzero(fold_of != test_fold), np.flatnonzero(fold_of == test_fold)
    assert_disjoint([samples[int(i)] for i in training], [samples[int(i)] for i in test])
    return training, test


def group_weights(samples: Sequence[Sample], datasets: dict[str, float] | None = None) -> np.ndarray:
    """Weight of each image, with mean 1: equal weights for the groups of a class, and for the images of a group.

    ``datasets`` gives the weight of each class of a data set (tiles count as BreakHis); None uses the data set's number
    of labelled groups, so that both of its classes have the same weight.
    """
    cells: dict[tuple[str, int], dict[str, list[int]]] = {}
    for index, sample in enumerate(samples):
        family = "breakhis" if sample.dataset.startswith("breakhis") else sample.dataset
        cells.setdefault((family, sample.label), {}).setdefault(sample.group, []).append(index)
    weights = np.zeros(len(samples))
    for (family, _), groups in cells.items():
        share = datasets[family] if datasets else sum(len(c) for (f, _), c in cells.items() if f == family)
        for indices in groups.values():
            weights[indices] = share / len(groups) / len(indices)
    return weights / weights.mean()
