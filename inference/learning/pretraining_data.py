"""Pre-training data: H&E patches of other organs and IDC patches, in balanced and augmented batches."""

from __future__ import annotations

import csv
import hashlib
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full, Queue

import numpy as np
from PIL import Image

from inference.learning.augment import Strength, degrade, stain_jitter
from inference.learning.dataset import read_rgb

#: Smallest side of IDC patches; those truncated at the edge of a slide are smaller and not used.
SMALLEST = 32
#: One in this many groups of each data set is held out for validation.
HELD = 10
UNKNOWN = -1


@dataclass(frozen=True)
class Patch:
    """One labelled patch. ``tumour`` is 1, 0 or UNKNOWN; ``group`` is the unit of the split."""

    path: Path
    dataset: str
    label: str
    tumour: int
    group: str


@dataclass(frozen=True)
class Batch:
    """``pixels`` uint8 (N, size, size, 3); index of the data set, class within it, and tumour (1, 0 or UNKNOWN), each
    (N,)."""

    pixels: np.ndarray
    dataset: np.ndarray
    label: np.ndarray
    tumour: np.ndarray


def read_patches(root: Path) -> list[Patch]:
    """All patches of ``root/pretrain/index.csv`` and the IDC patches of ``root/index.csv``; no BreakHis, UCSB or
    demonstration images.

    A patch without a known group is a group of its own. Raises FileNotFoundError if an index is missing.
    """
    patches = []
    with open(root / "pretrain" / "index.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            tumour = int(row["is_tumour"]) if row["is_tumour"] else UNKNOWN
            group = f"{row['dataset']}:{row['group'] or row['path']}"
            patches.append(Patch(root / row["path"], row["dataset"], row["label"], tumour, group))
    with open(root / "index.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["dataset"] == "idc" and min(int(row["width"]), int(row["height"])) >= SMALLEST:
                tumour = int(row["label"] == "idc-positive")
                patches.append(Patch(root / row["path"], "idc", row["label"], tumour, f"idc:{row['group']}"))
    return patches


def split(patches: Sequence[Patch]) -> tuple[list[int], list[int]]:
    """Indices (training, held out). The hash of a group's name decides, so a group is always on the same side."""
    held = [int(hashlib.sha256(one.group.encode()).hexdigest(), 16) % HELD == 0 for one in patches]
    return [i for i, h in enumerate(held) if not h], [i for i, h in enumerate(held) if h]


class Source:
    """All patches, decoded into memory, with indices of their data set and class. ``datasets`` and ``classes`` are the
    names."""

    def __init__(self, patches: Sequence[Patch]) -> None:
        self.patches = list(patches)
        self.datasets = sorted({one.dataset for one in patches})
        self.classes = {name: sorted({one.label for one in patches if one.dataset == name}) for name in self.datasets}
        self.pixels = [read_rgb(one.path) for one in patches]
        self.dataset = np.array([self.datasets.index(one.dataset) for one in patches])
        self.label = np.array([self.classes[one.dataset].index(one.label) for one in patches])
        self.tumour = np.array([one.tumour for one in patches])

    def shares(self, indices: Sequence[int]) -> np.ndarray:
        """Probability of drawing each of ``indices``, (N,): data sets in proportion to the square root of their size,
        classes evenly within a data set, groups evenly within a class."""
        chance = np.zeros(len(indices))
        own = np.array(indices)
        for dataset in range(len(self.datasets)):
            inside = np.flatnonzero(self.dataset[own] == dataset)
            labels = np.unique(self.label[own[inside]])
            for label in labels:
                cell = inside[self.label[own[inside]] == label]
                groups, index, count = np.unique(
                    [self.patches[i].group for i in own[cell]], return_inverse=True, return_counts=True
                )
                chance[cell] = np.sqrt(len(inside)) / len(labels) / len(groups) / count[index]
        return chance / chance.sum()

    def batch(self, indices: np.ndarray, pixels: list[np.ndarray]) -> Batch:
        return Batch(np.stack(pixels), self.dataset[indices], self.label[indices], self.tumour[indices])


def crop(pixels: np.ndarray, random: np.random.Generator, strength: Strength, size: int, smallest: float) -> np.ndarray:
    """A random square of an image, rotated, flipped, restained and resized: uint8 (size, size, 3).

    Its side is ``smallest`` to 1 times the shorter side of the image, which counts as at most ``size / smallest``
    pixels. Large images are therefore reduced at most by the factor ``smallest``, and small ones are enlarged.
    """
    largest = min(*pixels.shape[:2], round(size / smallest))
    side = round(largest * float(np.exp(random.uniform(np.log(smallest), 0))))
    y, x = (int(random.integers(0, extent - side + 1)) for extent in pixels.shape[:2])
    patch = np.rot90(pixels[y : y + side, x : x + side], int(random.integers(4)))
    if random.random() < 0.5:
        patch = patch[:, ::-1]
    image = Image.fromarray(np.ascontiguousarray(patch)).resize((size, size), Image.Resampling.BICUBIC)
    return degrade(Image.fromarray(stain_jitter(np.asarray(image), random, strength)), random, strength)


def centre(pixels: np.ndarray, size: int) -> np.ndarray:
    """The centre of an image for validation, resized: uint8 (size, size, 3)."""
    side = min(*pixels.shape[:2], round(size / 0.75))
    y, x = ((extent - side) // 2 for extent in pixels.shape[:2])
    image = Image.fromarray(np.ascontiguousarray(pixels[y : y + side, x : x + side]))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def batches(
    source: Source,
    indices: Sequence[int],
    count: int,
    size: int,
    strength: Strength,
    smallest: float,
    seed: int,
    first: int = 0,
) -> Generator[Batch]:
    """Endless balanced batches of ``count`` patches, prepared by a thread. A batch depends only on ``seed`` and its
    number, which starts at ``first``. Raises RuntimeError if no batch is ready within a minute."""
    chance, own = source.shares(indices), np.array(indices)
    queue: Queue[Batch | BaseException] = Queue(maxsize=4)
    stop = threading.Event()

    def prepare() -> None:
        number = first
        try:
            while not stop.is_set():
                random = np.random.default_rng((seed, number))
                drawn = own[random.choice(len(own), count, p=chance)]
                made = source.batch(drawn, [crop(source.pixels[i], random, strength, size, smallest) for i in drawn])
                while not stop.is_set():
                    try:
                        queue.put(made, timeout=1)
                        break
                    except Full:
                        continue
                number += 1
        except BaseException as error:  # noqa: BLE001  raised again by the consumer
            queue.put(error)

    thread = threading.Thread(target=prepare, daemon=True, name="pretraining-batches")
    thread.start()
    try:
        while True:
            try:
                found = queue.get(timeout=60)
            except Empty as error:
                raise RuntimeError("No batch was prepared within a minute.") from error
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        stop.set()
