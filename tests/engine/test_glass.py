"""Glass next to tissue, with the bundled model and real fields."""

from pathlib import Path

import numpy as np
import pytest

from inference.engine.predictor import Predictor
from inference.engine.runtime import load
from tests.conftest import BUNDLED

CROP = 448


def test_glass_around_a_field_hardly_changes_its_probability(data: Path) -> None:
    """The field with an equal area of glass on its right, with the field's background colour and camera noise."""
    from inference.learning.dataset import read_index, read_rgb

    samples = read_index(data, ["breakhis", "ucsb"])
    predictor = Predictor(load(BUNDLED[-1]))
    random = np.random.default_rng(3)
    compared = 0
    for sample in samples[::60]:
        field = read_rgb(sample.path)[:CROP, :CROP]
        if field.shape[:2] != (CROP, CROP):
            continue
        light = np.percentile(field.reshape(-1, 3), 99, axis=0)
        glass = np.clip(light + random.normal(0, 2.2, (CROP, CROP, 3)), 0, 255).astype(np.uint8)
        alone, beside = predictor.predict(field), predictor.predict(np.hstack([field, glass]))
        assert beside.verdict.empty_patches >= 4
        if beside.domain.in_domain and alone.domain.in_domain:
            compared += 1
            p = alone.verdict.probability_malignant
            assert beside.verdict.probability_malignant == pytest.approx(p, abs=0.02), sample.name
    assert compared >= 8
