"""Metrics and calibration compared with scikit-learn and hand calculations."""

import numpy as np
import pytest
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

from inference.engine.checkpoint import Metadata
from inference.engine.verdict import calibrate
from inference.learning.calibration import apply_platt, choose_thresholds, decided, fit_platt, logit
from inference.learning.metrics import (
    equal_group_weight,
    expected_calibration_error,
    figures,
    intervals,
    per_patient,
    weighted_auc,
)


@pytest.fixture
def case():
    random = np.random.default_rng(1)
    label = random.integers(0, 2, 300).astype(float)
    p = np.round(np.clip(0.3 * label + random.random(300) * 0.7, 0, 1), 2)  # with ties
    return label, p, random.random(300) + 0.1


def test_metrics_agree_with_sklearn(case):
    label, p, weight = case
    ours, predicted = figures(label, p, weight), p >= 0.5
    expected = {
        "accuracy": metrics.accuracy_score(label, predicted, sample_weight=weight),
        "balanced_accuracy": metrics.balanced_accuracy_score(label, predicted, sample_weight=weight),
        "precision": metrics.precision_score(label, predicted, sample_weight=weight),
        "sensitivity": metrics.recall_score(label, predicted, sample_weight=weight),
        "specificity": metrics.recall_score(label, predicted, sample_weight=weight, pos_label=0),
        "f1": metrics.f1_score(label, predicted, sample_weight=weight),
        "auc": metrics.roc_auc_score(label, p, sample_weight=weight),
        "brier": metrics.brier_score_loss(label, p, sample_weight=weight),
    }
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value), name


def test_one_class_has_no_auc():
    assert np.isnan(weighted_auc(np.ones(3), np.arange(3) / 3, np.ones(3)))


def test_calibration_error_matches_a_hand_calculation():
    label = np.array([0, 1, 1, 1.0])
    p = np.array([0.12, 0.18, 0.93, 0.97])
    # bins 1 and 9: |0.15 - 0.5| * 1/2 + |0.95 - 1| * 1/2
    assert expected_calibration_error(label, p, np.ones(4)) == pytest.approx(0.2)
    assert expected_calibration_error(np.array([1.0]), np.array([1.0]), np.ones(1)) == 0


def test_group_weights_and_patients():
    label = np.array([0, 0, 1, 1.0])
    group = np.array(["a", "a", "a", "b"])
    assert equal_group_weight(label, group).tolist() == [0.5, 0.5, 1, 1]
    labels, p, groups = per_patient(label, np.array([0.1, 0.3, 0.8, 0.9]), group)
    assert labels.tolist() == [0, 1, 1] and groups.tolist() == ["a", "a", "b"]
    assert p == pytest.approx([0.2, 0.8, 0.9])


def test_intervals_contain_the_metric_and_widen_with_fewer_groups(case):
    label, p, _ = case
    many, few = np.arange(300).astype(str), (np.arange(300) // 30).astype(str)
    low, high = intervals(label, p, many, replicates=200)["auc"]
    assert low < weighted_auc(label, p, np.ones(300)) < high
    wide = intervals(label, p + 0.2 * (np.arange(300) // 30 % 2), few, replicates=200)["auc"]
    assert wide[1] - wide[0] > high - low


def test_platt_calibration_agrees_with_sklearn_and_engine(case):
    label, p, weight = case
    ours = fit_platt(p, label, weight)
    other = LogisticRegression(C=1e9, max_iter=2000, tol=1e-8).fit(logit(p)[:, None], label, sample_weight=weight)
    assert apply_platt(p, ours) == pytest.approx(other.predict_proba(logit(p)[:, None])[:, 1], abs=2e-3)
    metadata = Metadata("m", "1", calibration=ours, calibrated=True)
    assert apply_platt(p, ours) == pytest.approx([calibrate(float(one), metadata) for one in p])


def test_calibration_is_right_on_average(case):
    label, p, weight = case
    q = apply_platt(p**3, fit_platt(p**3, label, weight))
    assert np.average(q, weights=weight) == pytest.approx(np.average(label, weights=weight), abs=1e-3)


def test_thresholds_match_a_hand_calculation():
    p = np.array([0.1, 0.2, 0.45, 0.55, 0.8, 0.9])
    label = np.array([0, 0, 1, 0, 1, 1.0])
    low, high = choose_thresholds(p, label, np.ones(6), max_error=0, min_decided=0.6)
    assert 0.2 < low <= 0.45 and 0.55 <= high < 0.8
    assert decided(p, label, np.ones(6), low, high) == (pytest.approx(4 / 6), 0)


def test_thresholds_if_the_error_limit_cannot_be_met():
    random = np.random.default_rng(0)
    p, label = random.random(400), random.integers(0, 2, 400).astype(float)
    low, high = choose_thresholds(p, label, np.ones(400))
    share, error = decided(p, label, np.ones(400), low, high)
    assert share >= 0.7 and error > 0.05
