from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from inference.engine import activationmap, patchmap
from inference.engine.grid import Grid


def test_overlapping_patches_are_averaged() -> None:
    grid = Grid(336, 224)  # columns at 0 and 112
    surface = patchmap.surface(grid, np.array([0.2, 0.8], dtype=np.float32))
    assert surface.shape == (224, 336)
    assert surface[0, 0] == pytest.approx(0.2)
    assert surface[0, 200] == pytest.approx(0.5)
    assert surface[0, 335] == pytest.approx(0.8)


def test_large_slides_have_a_smaller_map_of_the_same_aspect_ratio() -> None:
    grid = Grid(4096, 2048)
    surface = patchmap.surface(grid, np.full(len(grid), 0.3, dtype=np.float32))
    assert surface.shape == (512, 1024)
    assert surface == pytest.approx(0.3)


def test_the_map_has_the_colours_of_the_scale() -> None:
    picture = Image.open(BytesIO(patchmap.render(np.array([[0.0, 1.0]], dtype=np.float32)))).convert("RGB")
    assert picture.getpixel((0, 0)) == patchmap.CIVIDIS[0]
    assert picture.getpixel((1, 0)) == patchmap.CIVIDIS[-1]


def test_the_colour_map_gets_lighter_monotonically() -> None:
    lightness = patchmap.colour_table() @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) >= 0).all()


def test_a_very_long_strip_keeps_its_colour():
    """Patches are narrower than a pixel of the map; none may disappear."""
    grid = Grid(160, 900_000)
    assert patchmap.surface(grid, np.ones(len(grid), dtype=np.float32)).min() == 1
    grid = Grid(900_000, 160)
    assert patchmap.surface(grid, np.ones(len(grid), dtype=np.float32)).min() == 1


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize(
    "size", [(700, 460), (1600, 1200), (1920, 1200), (4208, 3120), (240, 240), (100, 300), (50000, 260), (9000, 1500)]
)
def test_the_activation_map_has_a_value_everywhere(size: tuple[int, int], overlap: float) -> None:
    grid = Grid(*size, overlap)
    evidence = np.full((len(grid), 7, 7), 6.0, dtype=np.float16)
    values = activationmap.surface(grid, evidence)
    assert values.min() > 0.99, "0.5 is where no patch lies"
    edge = evidence.copy()
    edge[:, 6, :] = -6.0
    if size[1] > 300:
        assert activationmap.surface(grid, edge)[-1].mean() < 0.6, "the lowest places are those of the lowest patches"


def test_the_maps_leave_out_patches_without_tissue():
    grid = Grid(448, 224)
    surface = patchmap.surface(grid, np.array([0.9, np.nan], dtype=np.float32))
    assert surface[:, :224] == pytest.approx(0.9)
    assert np.isnan(surface[:, 224:]).all()
    picture = Image.open(BytesIO(patchmap.render(surface)))
    assert picture.convert("RGBA").getpixel((300, 100))[3] == 0
    assert picture.convert("RGBA").getpixel((100, 100))[3] == 255

    logits = np.full((2, 7, 7), 6.0, dtype=np.float16)
    logits[1] = np.nan
    values = activationmap.surface(grid, logits)
    assert values[:, :7].min() > 0.99 and np.isnan(values[:, 7:]).all()
    grey = Image.open(BytesIO(activationmap.encode(values)))
    assert (grey.mode, grey.getpixel((1, 1))[1], grey.getpixel((13, 1))[1]) == ("LA", 255, 0)


def test_a_patch_overlapping_an_empty_one_keeps_its_value():
    grid = Grid(336, 224)  # columns at 0 and 112
    surface = patchmap.surface(grid, np.array([0.2, np.nan], dtype=np.float32))
    assert surface[0, 200] == pytest.approx(0.2)
    assert np.isnan(surface[0, 335])
