"""The share of tissue in each patch."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from inference.engine import tissue
from inference.engine.grid import PATCH, Grid

GLASS = np.array([228, 232, 226])


def slide(width, height, tissue_until, seed=0):
    """Glass with camera noise, and blobs in H&E colours left of ``tissue_until``: uint8 (height, width, 3)."""
    random = np.random.default_rng(seed)
    pixels = np.broadcast_to(GLASS, (height, width, 3)) + random.normal(0, 2, (height, width, 3))
    blots = random.normal(0, 20, (-(-height // 16), -(-tissue_until // 16), 3)).repeat(16, axis=0).repeat(16, axis=1)
    pixels[:, :tissue_until] = np.array([170, 90, 150]) + blots[:height, :tissue_until]
    return np.clip(pixels, 0, 255).astype(np.uint8)


def test_tissue_and_glass_are_distinguished_in_the_grids_order():
    pixels = slide(4 * PATCH, 2 * PATCH, PATCH * 2)
    grid = Grid(4 * PATCH, 2 * PATCH)
    found = tissue.shares(pixels, grid)
    assert found.dtype == np.float32
    assert found.shape == (8,)
    on_tissue = grid.positions[:, 0] < 2 * PATCH
    assert found[on_tissue].min() > 0.99
    assert found[~on_tissue].max() == 0
    assert (found[~on_tissue] < tissue.EMPTY).all()


def test_a_patch_on_the_boundary_has_its_share():
    found = tissue.shares(slide(3 * PATCH, PATCH, PATCH + PATCH // 4), Grid(3 * PATCH, PATCH))
    assert found == pytest.approx([1.0, 0.25, 0.0], abs=0.01)


@pytest.mark.parametrize("gain", [0.7, 0.9, 1.1])
def test_the_cameras_exposure_does_not_matter(gain):
    pixels, grid = slide(3 * PATCH, 2 * PATCH, 300), Grid(3 * PATCH, 2 * PATCH)
    brighter = np.clip(pixels * gain, 0, 255).astype(np.uint8)
    assert tissue.shares(brighter, grid) == pytest.approx(tissue.shares(pixels, grid), abs=0.02)


def test_shading_and_jpeg_do_not_turn_glass_into_tissue():
    pixels = slide(1400, 460, 500).astype(float)
    rows, columns = np.mgrid[0:460, 0:1400]
    pixels *= (1 - 0.06 * (((columns - 700) / 1400) ** 2 + ((rows - 230) / 460) ** 2))[..., None]
    file = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=80)
    grid = Grid(1400, 460)
    found = tissue.shares(Image.open(file).convert("RGB"), grid)
    assert (found[grid.positions[:, 0] > 520] < tissue.EMPTY).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (100, 80), (224, 224), (225, 1030), (1031, 229)])
@pytest.mark.parametrize("overlap", [0.0, 0.75])
def test_any_image_size_has_one_share_per_patch(size, overlap):
    grid = Grid(*size, overlap)
    found = tissue.shares(slide(*size, max(1, size[0] // 2)), grid)
    assert found.shape == (len(grid),)
    assert ((found >= 0) & (found <= 1)).all()


def test_reduction_in_bands_equals_reduction_at_once(monkeypatch):
    pixels, grid = slide(500, 2300, 250), Grid(500, 2300)
    in_bands = tissue.shares(pixels, grid)
    monkeypatch.setattr(tissue, "BAND", 10_000)
    assert np.array_equal(tissue.shares(pixels, grid), in_bands)


def test_thin_membranes_of_fat_are_not_empty():
    pixels = np.broadcast_to(GLASS, (448, 448, 3)).copy()
    # Fat cells of 80 pixels with walls of 4: some 10 % of the area.
    for start in range(0, 448, 80):
        pixels[start : start + 4] = (190, 120, 170)
        pixels[:, start : start + 4] = (190, 120, 170)
    found = tissue.shares(pixels.astype(np.uint8), Grid(448, 448))
    assert (found > tissue.EMPTY).all()
