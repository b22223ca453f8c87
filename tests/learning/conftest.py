from pathlib import Path

import numpy as np
import pytest

from inference.learning.dataset import Sample


def sample(index: int, label: int, group: str, dataset: str = "breakhis", magnification: str = "100X") -> Sample:
    return Sample(Path(f"{index}.png"), f"{index}.png", dataset, label, "", group, magnification)


@pytest.fixture
def samples() -> list[Sample]:
    """10 benign and 15 malignant groups of different sizes, and 5 UCSB groups with both labels."""
    random = np.random.default_rng(0)
    out: list[Sample] = []
    for number in range(25):
        label = int(number >= 10)
        out += [sample(len(out) + i, label, f"g{number}") for i in range(int(random.integers(1, 12)))]
    for number in range(5):
        out += [sample(len(out) + i, i % 2, f"u{number}", "ucsb") for i in range(4)]
    return out
