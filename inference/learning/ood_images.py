"""Images that are not H&E breast tissue, to evaluate the domain check. None of them is used to fit it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from inference.learning.augment import HED, HED_INVERSE

Random = np.random.Generator
Maker = Callable[[Random, np.ndarray], np.ndarray]
SIZE = (460, 700)
# Diaminobenzidine (brown) with haematoxylin: Ruifrok & Johnston, Anal. Quant. Cytol. Histol. 2001.
DAB = np.array([0.268, 0.570, 0.776], dtype=np.float32)


def _photo(names: list[str]) -> Maker:
    """A random crop of a sample picture from scikit-image, scikit-learn or matplotlib."""

    def make(random: Random, tissue: np.ndarray) -> np.ndarray:
        pixels = _picture(names[random.integers(len(names))])
        height, width = pixels.shape[:2]
        part = random.uniform(0.5, 1.0)
        h, w = int(height * part), int(width * part)
        y, x = random.integers(0, height - h + 1), random.integers(0, width - w + 1)
        image = Image.fromarray(pixels[y : y + h, x : x + w])
        return np.asarray(image.resize((SIZE[1], SIZE[0]), Image.Resampling.BICUBIC))

    return make


def _picture(name: str) -> np.ndarray:
    if name in ("china.jpg", "flower.jpg"):
        from sklearn.datasets import load_sample_image

        return load_sample_image(name)
    if name == "grace_hopper":
        import matplotlib as mpl

        return np.asarray(Image.open(Path(mpl.get_data_path(), "sample_data", "grace_hopper.jpg")).convert("RGB"))
    import skimage.data

    pixels = getattr(skimage.data, name)()
    pixels = pixels[0] if isinstance(pixels, tuple) else pixels
    return np.asarray(Image.fromarray(pixels).convert("RGB"))


def solid(random: Random, tissue: np.ndarray) -> np.ndarray:
    return np.full((*SIZE, 3), random.integers(0, 256, 3), np.uint8)


def blank_slide(random: Random, tissue: np.ndarray) -> np.ndarray:
    """Empty glass: nearly white, with uneven light and sensor noise."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]] / SIZE[1]
    light = random.uniform(225, 250) - random.uniform(0, 15) * ((x - 0.5) ** 2 + (y - 0.3) ** 2)
    tint = random.uniform(-5, 5, 3)
    return np.clip(light[..., None] + tint + random.normal(0, random.uniform(0.5, 3), (*SIZE, 3)), 0, 255).astype(
        np.uint8
    )


def noise(random: Random, tissue: np.ndarray) -> np.ndarray:
    """Uniform, Gaussian or smoothed colour noise."""
    pixels = random.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    if random.random() < 0.5:
        image = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(random.uniform(1, 6)))
        smooth = np.asarray(image).astype(float)
        smooth = (smooth - smooth.mean()) / smooth.std() * 50 + 128
        return np.clip(smooth, 0, 255).astype(np.uint8)
    return pixels


def text_page(random: Random, tissue: np.ndarray) -> np.ndarray:
    """A printed page: lines of dark letters on a light background."""
    image = Image.new("RGB", (SIZE[1], SIZE[0]), tuple(int(v) for v in random.integers(225, 256, 3)))
    draw = ImageDraw.Draw(image)
    letters = list("abcdefghijklmnopqrstuvwxyz    .,")
    for y in range(int(random.integers(5, 30)), SIZE[0], int(random.integers(14, 30))):
        draw.text((20, y), "".join(random.choice(letters, 110)), fill=tuple(int(v) for v in random.integers(0, 90, 3)))
    return np.asarray(image)


def screenshot(random: Random, tissue: np.ndarray) -> np.ndarray:
    """A window with panels and labels in flat colours."""
    image = Image.new("RGB", (SIZE[1], SIZE[0]), tuple(int(v) for v in random.integers(0, 256, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(random.integers(8, 30)):
        x, y = int(random.integers(0, SIZE[1])), int(random.integers(0, SIZE[0]))
        w, h = int(random.integers(20, 400)), int(random.integers(10, 200))
        colour = tuple(int(v) for v in random.integers(0, 256, 3))
        draw.rectangle((x, y, x + w, y + h), fill=colour, outline=(90, 90, 90))
        draw.text((x + 4, y + 2), "File  Edit  View  Help", fill=tuple(255 - v for v in colour))
    return np.asarray(image)


def chart(random: Random, tissue: np.ndarray) -> np.ndarray:
    """A scatter or line chart on white."""
    image = Image.new("RGB", (SIZE[1], SIZE[0]), "white")
    draw = ImageDraw.Draw(image)
    draw.line((40, 20, 40, SIZE[0] - 40, SIZE[1] - 20, SIZE[0] - 40), fill="black", width=2)
    for _ in range(random.integers(2, 6)):
        colour = tuple(int(v) for v in random.integers(0, 220, 3))
        y = SIZE[0] / 2 + np.cumsum(random.normal(0, 20, 30))
        points = [(40 + 21 * i, float(v)) for i, v in enumerate(y)]
        if random.random() < 0.5:
            draw.line(points, fill=colour, width=3)
        else:
            for x, v in points:
                draw.ellipse((x - 4, v - 4, x + 4, v + 4), fill=colour)
    return np.asarray(image)


def fluorescence(random: Random, tissue: np.ndarray) -> np.ndarray:
    """Real tissue rendered as fluorescence: nuclei in blue and a second marker in green or red, on black."""
    stains = np.maximum(_stains(tissue), 0)
    nuclei = np.clip((stains[..., 0] - np.median(stains[..., 0])) * random.uniform(150, 300), 0, 255)
    marker = np.clip((stains[..., 1] - np.median(stains[..., 1])) * random.uniform(100, 250), 0, 255)
    pixels = np.zeros_like(tissue, dtype=np.float32)
    pixels[..., 2] = nuclei
    pixels[..., random.integers(0, 2)] = marker
    return np.clip(pixels + random.normal(3, 2, pixels.shape), 0, 255).astype(np.uint8)


def _stains(tissue: np.ndarray) -> np.ndarray:
    return -np.log(np.maximum(tissue, 1).astype(np.float32) / 255) @ HED_INVERSE


def recoloured(random: Random, tissue: np.ndarray) -> np.ndarray:
    """Real tissue in the colours of immunohistochemistry: blue nuclei, and brown (DAB) instead of eosin."""
    stains = np.maximum(_stains(tissue), 0)
    blue = np.array([0.65, 0.70, 0.29], np.float32)
    density = stains[..., :1] * random.uniform(0.4, 1) * blue
    density = density + stains[..., 1:2] * random.uniform(0.8, 1.6) * DAB / np.linalg.norm(DAB)
    return np.clip(np.exp(-density) * 255, 0, 255).astype(np.uint8)


def trichrome(random: Random, tissue: np.ndarray) -> np.ndarray:
    """Real tissue with the blue or green of a connective-tissue stain instead of eosin."""
    stains = np.maximum(_stains(tissue), 0)
    colour = np.array([0.85, 0.45, 0.15] if random.random() < 0.5 else [0.80, 0.25, 0.55], np.float32)
    density = stains[..., :1] * HED[0] * 0.6 + stains[..., 1:2] * random.uniform(0.8, 1.3) * colour
    return np.clip(np.exp(-density) * 255, 0, 255).astype(np.uint8)


def inverted(random: Random, tissue: np.ndarray) -> np.ndarray:
    return 255 - tissue


def grey_tissue(random: Random, tissue: np.ndarray) -> np.ndarray:
    """Real tissue in greyscale."""
    return np.asarray(Image.fromarray(tissue).convert("L").convert("RGB"))


def mostly_background(random: Random, tissue: np.ndarray) -> np.ndarray:
    """Empty glass with real tissue on at most 2 % of the area."""
    pixels = blank_slide(random, tissue).copy()
    side = int(random.integers(15, 80))
    y, x = random.integers(0, SIZE[0] - side), random.integers(0, SIZE[1] - side)
    pixels[y : y + side, x : x + side] = tissue[:side, :side]
    return pixels


PHOTOS = ["astronaut", "chelsea", "coffee", "rocket", "stereo_motorcycle", "china.jpg", "flower.jpg", "grace_hopper"]
KINDS: dict[str, Maker] = {
    "photo": _photo(PHOTOS),
    "surface": _photo(["brick", "grass", "gravel"]),
    "retina": _photo(["retina"]),
    "night sky": _photo(["hubble_deep_field", "moon"]),
    "scanned page": _photo(["page", "text"]),
    "immunohistochemistry": _photo(["immunohistochemistry"]),
    "IHC colours on breast": recoloured,
    "blue or green stain": trichrome,
    "fluorescence": fluorescence,
    "inverted H&E": inverted,
    "grey H&E": grey_tissue,
    "mostly background": mostly_background,
    "blank slide": blank_slide,
    "solid colour": solid,
    "noise": noise,
    "text page": text_page,
    "screenshot": screenshot,
    "chart": chart,
}  # fmt: skip


def ood_images(kind: str, tissue: list[np.ndarray], count: int, seed: int = 0) -> Iterator[np.ndarray]:
    """``count`` images uint8 (H, W, 3) of one of KINDS. Those that modify real tissue cycle through ``tissue``."""
    number = list(KINDS).index(kind)
    for index in range(count):
        random = np.random.default_rng((seed, number, index))
        yield np.ascontiguousarray(KINDS[kind](random, tissue[index % len(tissue)]))
