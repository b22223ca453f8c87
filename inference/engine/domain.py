"""The domain check: rejects images that are not H&E breast tissue, and warns about poor image quality.

It uses colour, tissue and texture statistics of the pixels, not the network, so its result is the same in every
runtime. Rules detect common cases and name the reason; a Mahalanobis distance to real fields detects the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .grid import PATCH
from .tissue import STAINED, optical_density, relative_density

if TYPE_CHECKING:
    from .checkpoint import Metadata

Floats = NDArray[np.floating]

#: The longer side is reduced to less than twice this many pixels.
WORKING_SIDE = 256
#: The shorter side is not reduced below this, because texture is also measured at a quarter of the size. Matters only
#: for aspect ratios above 32:1.
LEAST_SIDE = 8

STATISTICS = (
    "stained", "exposure", "density_std", "density_low", "density_high", "red_share", "green_share", "blue_share",
    "red_share_std", "green_share_std", "blue_share_std", "magenta", "trade", "red_green", "green_blue", "red_blue",
    "fine", "middle", "coarse", "peaked", "axis", "flat", "dominant", "entropy", "dark",
)  # fmt: skip

REASONS = {
    "uniform": "The image has a single colour or nearly so, and shows no tissue.",
    "background": "The image is almost entirely background, with too little tissue to judge.",
    "fluorescence": "The image is bright on black, as in fluorescence microscopy. H&E images have a white background.",
    "colour": "The colours are not those of haematoxylin and eosin (pink to purple-blue).",
    "unlike": "The image does not look like the H&E breast tissue that the model was developed on.",
}
BLURRED = "The image appears to be out of focus: fine detail is missing. Interpret the result with caution."
SMALL = (
    f"The image is smaller than a patch ({PATCH} px), so its edges were mirrored to fill the patch. The model was not "
    "evaluated on such images. Interpret the result with caution."
)
DARK = "The image is unusually dark. Interpret the result with caution."


@dataclass(frozen=True)
class DomainResult:
    """Result of the domain check: ``reason`` (a sentence) and ``code`` if not ``in_domain``; quality ``warnings``."""

    in_domain: bool
    reason: str | None = None
    code: str | None = None
    warnings: list[str] = field(default_factory=list)


def _correlation(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).mean() * (b * b).mean()))
    return float((a * b).mean()) / norm if norm > 1e-6 else 1.0


def _halve(grey: Floats) -> Floats:
    height, width = grey.shape[0] // 2 * 2, grey.shape[1] // 2 * 2
    cut = grey[:height, :width]
    return (cut[::2, ::2] + cut[1::2, ::2] + cut[::2, 1::2] + cut[1::2, 1::2]) / 4


def _steps(grey: Floats) -> tuple[Floats, Floats]:
    return np.abs(np.diff(grey, axis=1))[:-1], np.abs(np.diff(grey, axis=0))[:, :-1]


def _sum3(values: Floats) -> Floats:
    """Sum over a last axis of length 3; several times as fast as numpy's sum."""
    return values[..., 0] + values[..., 1] + values[..., 2]


def reduced(image: NDArray[np.uint8] | Image.Image) -> NDArray[np.uint8]:
    """The image at working size, uint8 (H, W, 3), by averaging blocks of pixels; see WORKING_SIDE and LEAST_SIDE."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    factor = max(picture.size) // WORKING_SIDE
    across, down = (max(1, min(factor, side // LEAST_SIDE)) for side in picture.size)
    return np.asarray(picture.reduce((across, down)))


def statistics(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The values of STATISTICS for RGB pixels uint8 (H, W, 3): float64 (25,), all finite.

    ``*_share`` are the shares of the colour channels in the optical density OD = -ln(I / 255) (Beer-Lambert law):
    haematoxylin is about (0.40, 0.43, 0.17), eosin (0.06, 0.85, 0.09), DAB (0.17, 0.35, 0.48), from the vectors of
    Ruifrok & Johnston 2001. Density is measured relative to the brightest light in the image, which removes most of the
    effect of white balance and exposure. ``trade`` compares two kinds of colour variation: low if the stains differ
    mainly in green absorption, as haematoxylin and eosin do; high if in red versus blue, as a blue and a brown dye do.
    """
    small = reduced(rgb)
    light = np.maximum(small, 1).astype(np.float32) / 255
    exposure = float(_sum3(optical_density(small)).mean())
    tables = relative_density(small)
    density = np.stack([tables[channel][small[..., channel]] for channel in range(3)], axis=-1)
    total = _sum3(density)
    mask = total > STAINED
    stained = float(mask.mean())
    # Too few stained pixels to measure colour: use neutral values, so that the background rule decides.
    chosen = density[mask] if mask.sum() >= 50 else np.full((50, 3), 0.2, np.float32)
    sums = _sum3(chosen)
    shares = chosen / sums[:, None]
    mean, spread = shares.mean(0), shares.std(0)
    low, high = np.percentile(sums, (10, 90))

    grey = _sum3(light) / 3
    scales = [grey, _halve(grey)]
    scales.append(_halve(scales[-1]))
    steps = [_steps(scale) for scale in scales]
    energies = [float((x.mean() + y.mean()) / 2) for x, y in steps]
    x, y = steps[0]
    slope = np.hypot(x, y)
    steep = slope > max(0.02, float(np.percentile(slope, 80)))
    along = np.minimum(x, y)[steep] / np.maximum(np.maximum(x, y)[steep], 1e-6) if steep.any() else np.zeros(1)
    codes = (small >> 4).astype(np.int32)
    counts = np.bincount((codes[..., 0] << 8 | codes[..., 1] << 4 | codes[..., 2]).ravel(), minlength=4096)
    frequency = counts[counts > 0] / counts.sum()
    flat = float(((x == 0) & (y == 0)).mean())
    values = [
        stained, exposure, sums.std(), low, high, *mean, *spread,
        float(((chosen[:, 1] > chosen[:, 0]) & (chosen[:, 1] > chosen[:, 2])).mean()),
        np.log((float((shares[:, 0] - shares[:, 2]).std()) + 0.01) / (float(shares[:, 1].std()) + 0.01)),
        _correlation(light[..., 0], light[..., 1]), _correlation(light[..., 1], light[..., 2]),
        _correlation(light[..., 0], light[..., 2]),
        np.log(energies[0] + 1e-4), np.log((energies[1] + 1e-4) / (energies[0] + 1e-4)),
        np.log((energies[2] + 1e-4) / (energies[1] + 1e-4)),
        np.log(float((slope**2).mean()) / max(float(slope.mean()) ** 2, 1e-8) + 1e-3),
        float((along < 0.1).mean()), flat, float(frequency.max()), float(-(frequency * np.log(frequency)).sum()),
        float((np.maximum(np.maximum(light[..., 0], light[..., 1]), light[..., 2]) < 0.25).mean()),
    ]  # fmt: skip
    return np.asarray(values, dtype=np.float64)


def distance(values: NDArray[np.float64], gate: dict) -> float:
    """Root mean square of the whitened deviation from real fields (Mahalanobis distance / √25); about 1 for a typical
    field. ``values`` are those of :func:`statistics`."""
    deviation = (values - np.asarray(gate["mean"])) / np.asarray(gate["scale"])
    return float(np.sqrt(deviation @ np.asarray(gate["precision"]) @ deviation / len(values)))


def check(image: NDArray[np.uint8] | Image.Image, metadata: Metadata) -> DomainResult:
    """Check an image of mode RGB, or its pixels uint8 (H, W, 3). Every image passes if the checkpoint has no check."""
    gate = metadata.domain
    found = DomainResult(True) if gate is None else judge_statistics(statistics(reduced(image)), gate)
    size = image.size if isinstance(image, Image.Image) else image.shape[:2]
    return replace(found, warnings=[*found.warnings, SMALL]) if found.in_domain and min(size) < PATCH else found


def judge_statistics(values: NDArray[np.float64], gate: dict) -> DomainResult:
    """The result of the check for the values of :func:`statistics`, without the warning about small images."""
    by_name = dict(zip(STATISTICS, values.tolist(), strict=True))
    # Written so that NaN is rejected.
    code = _rule(by_name, gate) or (None if distance(values, gate) <= gate["limit"] else "unlike")
    if code:
        return DomainResult(False, REASONS[code], code)
    return DomainResult(True, warnings=_quality(by_name, gate))


def _rule(value: dict[str, float], gate: dict) -> str | None:
    """Code of the first rule that rejects the image, if any."""
    if value["dominant"] > gate["uniform"] or value["entropy"] < gate["plain"]:
        return "background" if value["exposure"] < 1 and 0.001 < value["stained"] < gate["stained"] else "uniform"
    if value["stained"] < gate["stained"]:
        return "background"
    if value["dark"] > gate["dark_share"]:
        return "fluorescence"
    if value["magenta"] < gate["magenta"] or value["trade"] > gate["trade"]:
        return "colour"
    return None


def _quality(value: dict[str, float], gate: dict) -> list[str]:
    warnings = []
    if value["middle"] > gate["blurred"]:
        warnings.append(BLURRED)
    if value["exposure"] > gate["dark"]:
        warnings.append(DARK)
    return warnings
