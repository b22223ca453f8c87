"""Features for training: patches with tissue, weighted as in the application, cached on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inference.engine import tissue
from inference.engine.checkpoint import Metadata
from inference.engine.grid import Grid
from inference.engine.network import build
from inference.learning import features
from inference.learning.augment import Strength, random_patch
from inference.learning.dataset import Sample
from inference.learning.head import slide_means


@pytest.fixture
def half_glass(tmp_path: Path) -> Sample:
    """A field of 896x448 pixels: tissue on the left half, glass on the right."""
    random = np.random.default_rng(0)
    rgb = np.full((448, 896, 3), 245, np.uint8)
    rgb[:, :448] = (np.array([190, 90, 170]) + random.integers(-30, 30, (448, 448, 1))).astype(np.uint8)
    path = tmp_path / "field.png"
    Image.fromarray(rgb).save(path)
    return Sample(path, path.name, "breakhis", 1, "DC", "g", "100X")


def test_glass_is_not_used_for_training(half_glass: Sample) -> None:
    cut = list(features.grid_patches([half_glass], [0]))
    grid = Grid(896, 448)
    assert 0 < len(cut) < len(grid)
    assert all(share >= tissue.EMPTY for *_, share in cut)
    every = list(features.grid_patches([half_glass], [0], empty=True))
    assert len(every) == len(grid) and {share for *_, share in every} == {1.0}
    strength = Strength(stain=0, offset=0, channel=0, blur=0, jpeg=100, scale=0.7)
    for _, patch, _ in features.random_patches([half_glass], [0], 12, 1, strength):
        assert (patch < 230).any(), "a patch of glass alone"


def test_a_patch_is_drawn_even_without_tissue() -> None:
    rgb = np.full((300, 300, 3), 250, np.uint8)
    stained = np.zeros((75, 75), bool)
    assert random_patch(rgb, np.random.default_rng(0), Strength(), stained=stained).shape == (224, 224, 3)


def test_mean_is_weighted_by_tissue() -> None:
    images, means = slide_means(np.array([1, 1, 2]), np.array([0.2, 0.8, 0.5]), np.array([0.75, 0.25, 0.1]))
    assert images.tolist() == [1, 2] and means == pytest.approx([0.35, 0.5])


def test_views_are_cached(half_glass: Sample, tmp_path: Path) -> None:
    metadata = Metadata("m", "1")
    trunk = features.Trunk(build(metadata), metadata, threads=1)
    made = features.cache_view(tmp_path / "view", features.grid_patches([half_glass], [0]), trunk)
    assert made.features.shape == (len(made.rows), 2048) and np.isfinite(made.features).all()
    again = features.cache_view(tmp_path / "view", iter(()), trunk)
    assert (again.features == made.features).all() and (again.tissue == made.tissue).all()
    lower = made.only(slice(1024))
    assert not lower.features[:, 1024:].any() and (lower.features[:, :1024] == made.features[:, :1024]).all()
