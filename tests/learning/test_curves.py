"""The figures that the page of a model version draws."""

import json

import numpy as np
import pytest
from sklearn import metrics

from inference.engine.checkpoint import read_metadata
from inference.learning import curves, training
from tests.conftest import BUNDLED, ROOT


def test_the_curve_is_that_of_sklearn():
    random = np.random.default_rng(1)
    label = random.integers(0, 2, 200).astype(float)
    p = np.round(np.clip(0.3 * label + random.random(200) * 0.7, 0, 1), 2)  # with ties
    weight = random.random(200) + 0.1
    false, true, _ = metrics.roc_curve(label, p, sample_weight=weight, drop_intermediate=False)
    assert np.array(curves.roc(label, p, weight)) == pytest.approx(np.column_stack([false, true]), abs=1e-4)


def test_reliability_by_hand():
    label, p = np.array([0, 1, 1, 1.0]), np.array([0.12, 0.18, 0.93, 1.0])
    assert curves.reliability(label, p, np.ones(4)) == [
        {"mean": 0.15, "share": 0.5, "images": 2},
        {"mean": 0.965, "share": 1.0, "images": 2},
    ]


@pytest.mark.skipif(not BUNDLED, reason="no bundled checkpoint")
def test_the_shipped_figures_are_those_of_the_record():
    predictions = training.read_predictions(ROOT / "docs" / "model" / "predictions.csv")
    _, digest = read_metadata(BUNDLED[-1])
    shipped = json.loads(curves.figures_path(BUNDLED[-1]).read_text(encoding="utf-8"))
    assert shipped == curves.record(predictions, digest)
