"""Comparison of two versions: sign and size of the differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.learning import comparison, evaluation
from inference.learning.crossval import LEFT_OUT, Patches, Prediction, laboratory_left_out, out_of_fold
from inference.learning.dataset import Sample
from inference.learning.folds import assign_folds, extend_folds
from tests.learning.conftest import sample


@pytest.fixture
def predictions(samples: list[Sample]) -> list[Prediction]:
    random = np.random.default_rng(0)
    return [
        Prediction(s.name, s.dataset, s.label, s.group, "100X", "DC" if s.label else "A", 0, 0.5, p, 0.4, 0.6)
        for s, p in zip(samples, random.random(len(samples)).tolist(), strict=True)
    ]


def test_a_version_does_not_differ_from_itself(predictions: list[Prediction]) -> None:
    side = (predictions, predictions)
    for row in comparison.compare(side, side, replicates=20):
        assert (row.before, row.low, row.high) == (row.after, 0, 0)


def test_a_better_version_is_better_in_every_test(predictions: list[Prediction]) -> None:
    better = [replace(one, p=0.2 * one.p + 0.8 * one.label) for one in predictions]
    rows = comparison.compare((predictions, predictions), (better, better[3:]), replicates=50)
    assert [row.name for row in rows] == [name for name, *_ in comparison.TESTS] + [comparison.MEAN]
    for row in rows:
        assert row.after == pytest.approx(1)
        assert 0 <= row.low <= row.after - row.before + 0.2 and row.low <= row.high
    assert rows[-1].before == pytest.approx(np.mean([row.before for row in rows[:-1]]))
    assert rows[3].images == rows[0].images - 3, "only what both predicted is compared"
    assert "1.000" in comparison.markdown(rows, "3", "4")


def test_a_held_out_laboratory_is_predicted_by_a_model_of_the_other(samples: list[Sample]) -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(len(samples), 4))
    own = np.array([s.dataset == "ucsb" for s in samples])
    label = np.array([s.label for s in samples])
    # One direction predicts the label everywhere; another one does so with opposite signs in each laboratory.
    features[:, 0] += 3 * label
    features[:, 1] += np.where(own, -6, 6) * label
    patches = Patches(np.arange(len(samples)), features)
    found = laboratory_left_out(samples, patches, patches, lambda _: None)
    assert len(found) == len(samples) and {one.fold for one in found} == {LEFT_OUT}
    rows = {row.dataset: row for row in evaluation.left_out_rows(found, 10) if row.level == "patient"}
    assert rows["ucsb"].values["auc"] < 0.5 and rows["breakhis"].values["auc"] < 0.5
    both = out_of_fold(samples, patches, patches, assign_folds(samples), lambda _: None)
    assert evaluation.rows(both, 10)[0].values["auc"] > 0.8


def test_subtypes_weigh_groups_equally(predictions: list[Prediction]) -> None:
    benign, malignant = evaluation.subtypes(predictions)
    assert (benign.name, benign.label, benign.groups) == ("adenosis", 0, 10)
    assert (malignant.name, malignant.label, malignant.groups) == ("ductal carcinoma", 1, 15)
    assert benign.images == sum(one.dataset == "breakhis" and not one.label for one in predictions)
    assert 0 <= benign.right <= 1 and "adenosis" in evaluation.subtypes_markdown([benign])


def test_new_groups_do_not_move_known_ones(samples: list[Sample]) -> None:
    folds = assign_folds(samples)
    new = [sample(1000 + i, 1, f"n{i}") for i in range(6)]
    extended = extend_folds([*samples, *new], folds)
    assert {group: extended[group] for group in folds} == folds
    assert extended == extend_folds([*new, *reversed(samples)], folds)
    counts = [sum(extended[s.group] == fold for s in new) for fold in range(5)]
    assert max(counts) - min(counts) <= 1
