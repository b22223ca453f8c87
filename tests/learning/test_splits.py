"""No group is on both sides, demonstration images are excluded, and all groups have the same weight."""

from collections import Counter

import numpy as np
import pytest

from inference.learning.dataset import DEMO_GROUPS, LeakError, assert_disjoint, assert_no_demo, read_index
from inference.learning.folds import assign_folds, group_weights, split
from tests.learning.conftest import sample


def test_folds_keep_groups_apart_and_cover_all(samples):
    folds = assign_folds(samples)
    seen: list[int] = []
    for fold in range(5):
        training, test = split(samples, folds, fold)
        assert not {samples[i].group for i in training} & {samples[i].group for i in test}
        assert len(training) + len(test) == len(samples)
        seen += test.tolist()
    assert sorted(seen) == list(range(len(samples)))


def test_folds_are_stratified(samples):
    folds = assign_folds(samples)
    for prefix, label in (("g", 0), ("g", 1), ("u", 0)):
        groups = {s.group for s in samples if s.group.startswith(prefix) and s.label == label}
        counts = Counter(folds[group] for group in groups)
        assert max(counts.values()) - min(counts[f] for f in range(5)) <= 1


def test_same_seed_same_folds(samples):
    assert assign_folds(samples, seed=3) == assign_folds(list(reversed(samples)), seed=3)
    assert assign_folds(samples, seed=3) != assign_folds(samples, seed=4)


def test_leaks_are_rejected(samples):
    with pytest.raises(LeakError):
        assert_disjoint(samples[:1], samples[:1])
    demo = [sample(0, 0, "29315")]
    with pytest.raises(LeakError):
        assert_no_demo(demo)
    with pytest.raises(LeakError):
        assign_folds([*samples, *demo])


def test_group_weights_are_balanced(samples):
    weights = group_weights(samples)
    assert weights.mean() == pytest.approx(1)
    for dataset in ("breakhis", "ucsb"):
        own = [i for i, s in enumerate(samples) if s.dataset == dataset]
        by_class = [sum(weights[i] for i in own if samples[i].label == c) for c in (0, 1)]
        assert by_class[0] == pytest.approx(by_class[1])
    benign = Counter()
    for weight, s in zip(weights, samples, strict=True):
        if s.dataset == "breakhis" and s.label == 0:
            benign[s.group] += weight
    assert np.ptp(list(benign.values())) == pytest.approx(0)


def test_the_real_index_has_no_demonstration_groups(data):
    samples = read_index(data)
    assert not {s.group for s in samples} & DEMO_GROUPS
    shared = {s.group for s in samples if s.dataset == "breakhis"} & {
        s.group for s in samples if s.dataset == "breakhis-tile"
    }
    assert shared  # some patients have both fields and tiles, so folds must be by group over both
    folds = assign_folds(samples)
    for fold in range(5):
        split(samples, folds, fold)
