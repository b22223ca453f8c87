from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inference.engine.grid import PATCH, Grid


def test_a_breakhis_field_has_twelve_patches() -> None:
    grid = Grid(700, 460)
    # 700 = 224 + 476 in three steps of 158.67; 460 = 224 + 236 in two steps of 118.
    assert grid.columns == [0, 159, 317, 476]
    assert grid.rows == [0, 118, 236]
    assert grid.positions[4].tolist() == [0, 118]
    assert len(grid) == 12


def test_half_overlap_of_a_breakhis_field() -> None:
    # stride 112: ceil(476 / 112) + 1 = 6 columns, ceil(236 / 112) + 1 = 4 rows
    assert len(Grid(700, 460, 0.5)) == 24


@pytest.mark.parametrize("size", [(224, 224), (100, 224), (16, 16)])
def test_an_image_up_to_the_size_of_a_patch_has_one(size: tuple[int, int]) -> None:
    assert len(Grid(*size)) == 1


def test_one_pixel_more_than_a_patch_needs_two() -> None:
    assert Grid(225, 224).columns == [0, 1]


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75]))
def test_every_pixel_is_covered_and_neighbours_share_at_least_the_overlap(w: int, h: int, overlap: float) -> None:
    grid = Grid(w, h, overlap)
    for starts, length in ((grid.columns, w), (grid.rows, h)):
        assert starts[0] == 0
        assert starts[-1] + PATCH == max(length, PATCH)
        for before, after in pairwise(starts):
            assert 0 < after - before <= PATCH * (1 - overlap) + 0.5


@pytest.mark.parametrize(("w", "h", "overlap"), [(0, 5, 0.0), (5, 0, 0.0), (5, 5, -0.1), (5, 5, 0.8)])
def test_impossible_grids_are_rejected(w: int, h: int, overlap: float) -> None:
    with pytest.raises(ValueError):
        Grid(w, h, overlap)


def test_a_small_image_is_mirrored_not_stretched() -> None:
    rgb = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    padded = Grid(3, 2).pad(rgb)
    assert padded.shape == (224, 224, 3)
    assert np.array_equal(padded[:2, :3], rgb)
    assert np.array_equal(padded[2, :3], rgb[1])  # the row below the edge repeats it
    assert np.array_equal(padded[0, 3], rgb[0, 2])


def test_cut_copies_the_pixels_at_the_position() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (460, 700, 3), dtype=np.uint8)
    grid, out = Grid(700, 460), np.empty((224, 224, 3), np.uint8)
    grid.cut(rgb, 11, out)
    assert np.array_equal(out, rgb[236:460, 476:700])


@pytest.mark.parametrize("size", [(700, 460), (224, 224), (300, 100), (3, 500), (2, 3)])
def test_crop_gives_the_same_pixels_as_cut(size: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    grid, cut, cropped = Grid(*size), *np.empty((2, 224, 224, 3), np.uint8)
    padded, picture = grid.pad(rgb), Image.fromarray(rgb)
    for index in range(len(grid)):
        grid.cut(padded, index, cut)
        grid.crop(picture, index, cropped)
        assert np.array_equal(cut, cropped)
