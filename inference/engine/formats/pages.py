"""Which page of a TIFF is the picture: never a thumbnail, a label or a lower level; and which pages belong together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import tifffile

from .errors import damaged, unsupported

#: Tags: NewSubfileType, SubfileType, ImageDescription, PageName.
SUBFILE, OLD_SUBFILE, DESCRIPTION, PAGE_NAME = 254, 255, 270, 285
REDUCED_OR_MASK, OLD_REDUCED = 1 | 4, 2
#: As scanners of Aperio, Leica, Akoya and others name the pictures beside the scan.
BESIDE = re.compile(
    r"^\s*(label|macro|thumbnail|overview)\b|<ImageType>\s*(label|macro|thumbnail|overview)",
    re.IGNORECASE | re.MULTILINE,
)
COLOURS = {
    "red": re.compile(r"\b(r|red)\b", re.I),
    "green": re.compile(r"\b(g|green)\b", re.I),
    "blue": re.compile(r"\b(b|blue)\b", re.I),
}
#: Names that say nothing, as programs number channels.
NUMBERED = re.compile(r"\s*(channel|ch|c|component|sample|image|slice|page|plane)?[\s:_#-]*[\d:/ ]*\s*", re.I)
GREY = (0, 1)
MAX_PAGES = 2000
#: Red, green and blue of one field go up and down together.
ALIKE = 0.5


@dataclass
class Choice:
    """The page to read, or the three pages of its red, green and blue.

    ``is_guess`` says that nothing in the file names the three as colours. ``numbers`` are the pages (from 1) that are
    pictures of their own.
    """

    planes: list[Any]
    is_guess: bool = False
    numbers: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Page:
    number: int
    page: Any
    is_nested: bool

    @property
    def size(self) -> tuple[int, int]:
        return int(self.page.imagewidth), int(self.page.imagelength)

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]


def chosen(file: tifffile.TiffFile, number: int | None = None) -> Choice:
    """The largest full-resolution picture, or page ``number`` unless that is 0, which only keeps the others unnamed.

    Raises :class:`ImageError`, or what tifffile raises.
    """
    pages, total = _pages(file)
    whole = [one for one in pages if not _is_beside(one.page)] or pages
    largest = max(whole, key=lambda one: one.pixels)
    if number is not None:
        largest = next((one for one in whole if one.number == number and not one.is_nested), largest)
    choice = _together(file, largest, whole)
    used = {id(page) for page in choice.planes}
    others = [one for one in whole if id(one.page) not in used and not _is_level(one, largest)]
    if others:
        choice.numbers = list(dict.fromkeys((largest.number, *(one.number for one in others))))
        if number is None:
            width, height = largest.size
            choice.warnings.append(
                f"Only page {largest.number} of {total} was analysed ({width}×{height} pixels). "
                "The file holds several pictures."
            )
    return choice


def _pages(file: tifffile.TiffFile) -> tuple[list[_Page], int]:
    """All pages with a size, those inside others too, and the number of those that are not."""
    file.pages.useframes = False
    total = len(file.pages)
    if total > MAX_PAGES:
        raise unsupported(f"has {total} pages, more than {MAX_PAGES}", "Save the page to analyse as a file of its own.")
    found = []
    for number in range(total):
        page: Any = file.pages[number]
        found.append(_Page(number + 1, page, False))
        found.extend(_Page(number + 1, inner, True) for inner in page.pages or ())
    found = [one for one in found if one.pixels > 0]
    if not found:
        raise damaged()
    return found, total


def _is_beside(page: Any) -> bool:
    words = "\n".join(str(page.tags.valueof(tag) or "") for tag in (DESCRIPTION, PAGE_NAME))
    kind = page.tags.valueof(SUBFILE) or 0
    return bool(kind & REDUCED_OR_MASK or page.tags.valueof(OLD_SUBFILE) == OLD_REDUCED or BESIDE.search(words))


def _is_level(one: _Page, largest: _Page) -> bool:
    """Whether a page is a smaller copy of the largest, as the levels of pyramids are."""
    across, down = (great / small for great, small in zip(largest.size, one.size, strict=True))
    same_shape = abs(across - down) < 0.02 * across
    return across > 1.4 and same_shape and (one.is_nested or bool(one.page.is_tiled and largest.page.is_tiled))


def _is_grey(page: Any) -> bool:
    return page.photometric in GREY and page.samplesperpixel == 1


def _together(file: tifffile.TiffFile, largest: _Page, whole: Sequence[_Page]) -> Choice:
    """The page, with the others that hold its red, green and blue."""
    if not _is_grey(largest.page):
        return Choice([largest.page])
    if file.is_ome or file.is_imagej:
        return _channels(file, largest, {one.page.index: one.page for one in whole})
    alike = [one.page for one in whole if _is_grey(one.page) and one.size == largest.size and not one.is_nested]
    if len(alike) == 3 and len({page.dtype for page in alike}) == 1:
        names = [str(page.tags.valueof(PAGE_NAME) or page.tags.valueof(DESCRIPTION) or "") for page in alike]
        order = _order(names)
        return Choice([alike[i] for i in order or (0, 1, 2)], is_guess=order is None)
    return Choice([largest.page])


def _channels(file: tifffile.TiffFile, largest: _Page, pages: Mapping[Any, Any]) -> Choice:
    """By the metadata of OME or ImageJ, which say what pages are channels of one picture."""
    for number, series in enumerate(file.series):
        indices = [page.index if page is not None else None for page in series.pages]
        if largest.page.index not in indices:
            continue
        if series.kind == "imagej" and series.is_truncated:
            raise unsupported("is an ImageJ stack with one header for all pages")
        leading = dict(zip(series.axes, series.shape, strict=True))
        count = leading.get("C", 1)
        if count == 1:
            break
        names = _names(file, number, count)
        order = _order(names) or ((0, 1, 2) if all(NUMBERED.fullmatch(name) for name in names) else None)
        if count != 3 or order is None:
            said = ", ".join(name for name in names if name)[:80] or "unnamed"
            said = "".join(char if char.isprintable() else "?" for char in said)
            raise unsupported(f"holds {count} separate channels ({said}), not red, green and blue")
        outer = [size for axis, size in leading.items() if axis not in "YXS"]
        at = [axis for axis in leading if axis not in "YXS"].index("C")
        planes = []
        for channel in order:
            position = [0] * len(outer)
            position[at] = channel
            index = indices[int(np.ravel_multi_index(position, outer))]
            if index not in pages:
                raise damaged()
            planes.append(pages[index])
        return Choice(planes)
    return Choice([largest.page])


def _names(file: tifffile.TiffFile, number: int, count: int) -> list[str]:
    """What OME or ImageJ call the channels: names, or the colours they are shown in."""
    names = [""] * count
    if file.is_ome:
        images = _listed(tifffile.xml2dict(file.ome_metadata or "").get("OME", {}).get("Image"))
        channels = _listed(images[number].get("Pixels", {}).get("Channel")) if number < len(images) else []
        names = [str(channel.get("Name", "")) for channel in channels]
        if len(names) == count and all(NUMBERED.fullmatch(name) for name in names):
            names = [
                _of_colour([int(channel.get("Color", -1)) >> shift & 255 for shift in (24, 16, 8)])
                for channel in channels
            ]
    elif tables := (file.imagej_metadata or {}).get("LUTs"):
        names = [_of_colour([int(row[-1]) for row in np.asarray(table)]) for table in tables]
    return names if len(names) == count else [""] * count


def _of_colour(rgb: Sequence[int]) -> str:
    bright = [name for name, part in zip(COLOURS, rgb, strict=False) if part > 127]
    return bright[0] if len(bright) == 1 and len(rgb) == 3 else ""


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _order(names: Sequence[str]) -> tuple[int, ...] | None:
    """The positions of red, green and blue, if the names are these three."""
    found = [[i for i, name in enumerate(names) if pattern.search(name)] for pattern in COLOURS.values()]
    one = tuple(hits[0] for hits in found if len(hits) == 1)
    return one if len(set(one)) == 3 else None


def are_one(planes: Sequence[np.ndarray]) -> bool:
    """Whether grey pages look like the red, green and blue of one picture."""
    step = max(1, int((planes[0].size / 250_000) ** 0.5))
    seen = [plane[::step, ::step].ravel().astype(np.float64) for plane in planes]
    if any(one.std() == 0 for one in seen):
        return False
    return all(float(np.corrcoef(one, other)[0, 1]) > ALIKE for one, other in pairwise(seen))
