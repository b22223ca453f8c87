import math

import numpy as np
import pytest
from scipy.special import expit, logit

from inference.engine.checkpoint import Metadata
from inference.engine.domain import REASONS, DomainResult
from inference.engine.verdict import calibrate, case_verdict, judge, mean_probability, slide_verdict

IN = DomainResult(True)
PATCHES = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.5, 0.5]], np.float32)
CALIBRATED = Metadata(
    "m", "1", calibration={"slope": 2.0, "intercept": -0.5}, cut_low=0.3, cut_high=0.7, calibrated=True
)


def test_mean_is_over_patches():
    assert mean_probability(PATCHES) == pytest.approx((0.1 + 0.8 + 0.6 + 0.5) / 4)


@pytest.mark.parametrize("shape", [(0, 2), (3,), (3, 3)])
def test_mean_rejects_other_shapes(shape):
    with pytest.raises(ValueError):
        mean_probability(np.zeros(shape))


@pytest.mark.parametrize("raw", [0.01, 0.3, 0.5, 0.8, 0.999])
def test_calibration_against_scipy(raw):
    assert calibrate(raw, CALIBRATED) == pytest.approx(expit(2 * logit(raw) - 0.5), abs=1e-12)
    assert calibrate(raw, Metadata("m", "1")) == raw


@pytest.mark.parametrize("raw", [0.0, 1.0])
def test_calibration_is_finite_at_the_edges(raw):
    assert math.isfinite(calibrate(raw, CALIBRATED))


def test_thresholds_belong_to_the_indeterminate_range():
    assert [judge(p, 0.3, 0.7) for p in (0.29, 0.3, 0.5, 0.7, 0.71)] == [
        "benign", "indeterminate", "indeterminate", "indeterminate", "malignant",
    ]  # fmt: skip


def test_slide():
    result = slide_verdict(PATCHES, CALIBRATED, DomainResult(True, warnings=["blurred"]))
    assert result.raw_malignant == pytest.approx(0.5)
    assert result.probability_malignant == pytest.approx(expit(-0.5))
    assert result.confidence == pytest.approx(1 - expit(-0.5))
    assert (result.benign_patches, result.malignant_patches) == (2, 2)
    assert result.verdict == "indeterminate" and result.warnings == ("blurred",)


def test_out_of_domain_has_no_model_probability():
    result = slide_verdict(PATCHES, CALIBRATED, DomainResult(False, "No tissue.", "blank", ["dark"]))
    assert (result.verdict, result.confidence, result.probability_malignant) == ("out_of_domain", 0.0, 0.5)
    assert result.raw_malignant is None and result.warnings == ("No tissue.", "dark")


def test_case_is_the_mean_of_its_slides():
    case = case_verdict([0.2, 0.9, 0.7], 0.3, 0.55)
    assert case.probability_malignant == pytest.approx(0.6) and case.verdict == "malignant"
    assert case.confidence == pytest.approx(0.6) and case.slides == 3
    assert case_verdict([], 0.3, 0.7).verdict == "out_of_domain"


def test_the_mean_is_weighted_by_tissue_without_empty_patches():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [np.nan, np.nan], [0.4, 0.6]], dtype=np.float32)
    shares = np.array([1.0, 0.5, 0.01, 0.25], dtype=np.float32)
    expected = (0.1 * 1 + 0.8 * 0.5 + 0.6 * 0.25) / 1.75
    assert mean_probability(probabilities, shares) == pytest.approx(expected)
    result = slide_verdict(probabilities, CALIBRATED, DomainResult(True), shares)
    assert result.raw_malignant == pytest.approx(expected)
    assert (result.benign_patches, result.malignant_patches, result.empty_patches) == (1, 2, 1)


def test_without_tissue_a_slide_is_out_of_domain():
    result = slide_verdict(np.full((3, 2), np.nan), CALIBRATED, DomainResult(True), np.array([0.0, 0.01, 0.03]))
    assert (result.verdict, result.confidence, result.raw_malignant) == ("out_of_domain", 0.0, None)
    assert result.warnings == (REASONS["background"],)
    assert (result.benign_patches, result.malignant_patches, result.empty_patches) == (0, 0, 3)
    with pytest.raises(ValueError, match="no patch has tissue"):
        mean_probability(np.full((1, 2), 0.5), np.zeros(1))
