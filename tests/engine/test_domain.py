"""The domain check: its statistics, and the bundled model's check on real images and on images that are not H&E."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from inference.engine.checkpoint import Metadata, read_metadata
from inference.engine.domain import REASONS, SMALL, STATISTICS, check, judge_statistics, reduced, statistics
from tests.conftest import BUNDLED

SHAPES = [(16, 16), (224, 224), (460, 700), (30, 900), (1500, 1300), (16, 4096), (20_000, 17), (200, 12_000)]


def named(rgb):
    return dict(zip(STATISTICS, statistics(rgb), strict=True))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fill", [0, 128, 255, None])
def test_statistics_are_finite_for_any_image(shape, fill):
    random = np.random.default_rng(0)
    rgb = random.integers(0, 256, (*shape, 3), dtype=np.uint8) if fill is None else np.full((*shape, 3), fill, np.uint8)
    values = statistics(rgb)
    assert values.shape == (len(STATISTICS),) and np.isfinite(values).all()


def test_working_size():
    assert reduced(np.zeros((460, 700, 3), np.uint8)).shape == (230, 350, 3)
    for shape in ((9000, 50), (16, 60_000)):
        height, width, _ = reduced(np.zeros((*shape, 3), np.uint8)).shape
        assert min(height, width) >= 8 and max(height, width) < 512


def test_colour_shares_match_a_hand_calculation():
    """Half glass, half a dye that transmits e^-0.2, e^-0.6 and e^-0.2 of red, green and blue."""
    rgb = np.full((200, 200, 3), 255, np.uint8)
    rgb[:, 100:] = np.round(255 * np.exp([-0.2, -0.6, -0.2]))
    values = named(rgb)
    assert values["stained"] == pytest.approx(0.5)
    assert [values[f"{c}_share"] for c in ("red", "green", "blue")] == pytest.approx([0.2, 0.6, 0.2], abs=0.01)
    assert values["magenta"] == 1
    assert values["exposure"] == pytest.approx(0.5, abs=0.01)


def test_a_warning_for_an_image_smaller_than_a_patch():
    for size in ((60, 300), (300, 223)):
        assert check(np.zeros((*size, 3), np.uint8), Metadata("x", "1")).warnings == [SMALL]
        assert check(Image.new("RGB", size), Metadata("x", "1")).warnings == [SMALL]
    assert check(np.zeros((224, 224, 3), np.uint8), Metadata("x", "1")).warnings == []


def test_without_a_check_every_image_is_in_domain():
    assert check(np.zeros((50, 50, 3), np.uint8), Metadata("m", "1")).in_domain


@pytest.fixture(scope="module")
def bundled():
    if not BUNDLED:
        pytest.skip("no bundled checkpoint")
    metadata, _ = read_metadata(BUNDLED[-1])
    if metadata.domain is None:
        pytest.skip("the bundled checkpoint has no gate")
    return metadata


@pytest.mark.parametrize(
    ("make", "codes"),
    [
        (lambda _: np.full((300, 300, 3), 250, np.uint8), {"uniform", "background"}),
        (lambda _: np.full((300, 300, 3), (150, 60, 140), np.uint8), {"uniform"}),
        (lambda r: r.integers(0, 256, (300, 300, 3), dtype=np.uint8), {"colour", "unlike"}),
        (lambda r: np.clip(245 + r.normal(0, 2, (300, 300, 3)), 0, 255).astype(np.uint8), {"uniform", "background"}),
    ],
)
def test_plain_foreign_images(bundled, make, codes):
    result = check(make(np.random.default_rng(0)), bundled)
    assert not result.in_domain and result.code in codes and result.reason == REASONS[result.code]


def test_demonstration_images_are_in_domain(bundled, demo):
    from inference.engine.image import decode

    for path in sorted(demo.rglob("*.png")):
        rgb = decode(path).rgb
        assert check(rgb, bundled).in_domain, path.name


def test_quality_warnings(bundled, demo):
    from inference.engine.image import decode

    rgb = decode(sorted(demo.rglob("*.png"))[0]).rgb
    soft = np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(4)))
    assert any("focus" in warning for warning in check(soft, bundled).warnings) or not check(soft, bundled).in_domain
    assert not any("focus" in warning for warning in check(rgb, bundled).warnings)


@pytest.mark.parametrize("kind", ["photo", "immunohistochemistry", "fluorescence", "grey H&E", "screenshot"])
def test_generated_images_that_are_not_tissue_are_rejected(bundled, data, kind):
    pytest.importorskip("skimage", reason="sample pictures come with scikit-image")
    from inference.learning.dataset import read_index, read_rgb
    from inference.learning.ood_images import ood_images

    field = next(s for s in read_index(data) if s.magnification == "100X")
    images = list(ood_images(kind, [read_rgb(field.path)], 5, seed=1))
    assert sum(not check(image, bundled).in_domain for image in images) >= 4


@pytest.mark.parametrize("shape", [(1000, 1000), (16, 1024), (200, 8192), (224, 12_000)])
def test_noise_is_rejected_in_every_aspect_ratio(shape):
    noise = np.random.default_rng(1).normal(0, 30, (*shape, 3)) + np.array([200, 140, 190])
    gate = read_metadata(BUNDLED[0])[0]
    found = check(np.clip(noise, 0, 255).astype(np.uint8), gate)
    assert not found.in_domain


def test_statistics_that_are_nan_are_rejected():
    metadata = read_metadata(BUNDLED[0])[0]
    assert metadata.domain is not None
    real = dict(zip(STATISTICS, metadata.domain["mean"], strict=True))
    assert judge_statistics(np.array(list(real.values())), metadata.domain).in_domain
    real["fine"] = float("nan")
    assert not judge_statistics(np.array(list(real.values())), metadata.domain).in_domain
