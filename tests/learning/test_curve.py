"""The learning curve counts patients and never trains on those that it tests."""

import numpy as np

from inference.learning.crossval import Patches, learning_curve
from inference.learning.folds import assign_folds


def test_more_patients_help_where_patients_differ(samples):
    random = np.random.default_rng(1)
    label = np.array([s.label for s in samples])
    of_group = {s.group: random.normal(0, 2, 6) for s in samples}
    features = np.array([of_group[s.group] for s in samples]) + random.normal(0, 0.3, (len(samples), 6))
    features[:, 0] += 3 * label
    patches = Patches(np.arange(len(samples)), features.astype(np.float32))
    curve = learning_curve(samples, patches, patches, assign_folds(samples), 1.0)
    assert [point.share for point in curve] == [0.25, 0.5, 0.75, 1.0]
    assert [point.groups for point in curve] == sorted(point.groups for point in curve)
    assert curve[-1].held > curve[0].held
    assert all(point.known >= point.held for point in curve)
