"""An INT8 form of a checkpoint's graph that lies beside it, and the gate it passed. Used only if both hold.

``X.safetensors`` may have ``X.int8.xml`` and ``X.int8.bin`` (the graph, OpenVINO's format) and ``X.int8.json``, the
record that ``manage.py model optimize`` wrote: checksums of the checkpoint and of both files, and how the INT8 form
compared with the fp32 one.

Its convolutions multiply 8-bit integers with the VNNI instructions, whose sums are exact. Processors without them would
saturate at 16 bits and give other figures, so they keep to fp32.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checkpoint import sha256

#: A slide's probability may move by so much (and so a verdict only across a cut point nearer than that).
MAX_SHIFT = 0.02
#: A logit of the probe may differ by so much from machine to machine.
MAX_PROBE_SHIFT = 0.1
#: The group-weighted AUC may move by so much.
MAX_AUC_SHIFT = 0.002


@dataclass(frozen=True)
class Comparison:
    """How INT8 compares with fp32 over some slides.

    ``shift`` is the largest difference of a slide's calibrated probability, ``mean_shift`` the mean one, ``verdicts``
    how many verdicts differ, ``auc_shift`` the difference of the group-weighted AUC (None where only one class is
    there), ``logit_shift`` the 99th percentile of the differences of patch logits.
    """

    what: str
    slides: int
    shift: float
    mean_shift: float
    verdicts: int
    logit_shift: float
    auc_shift: float | None = None

    @property
    def passed(self) -> bool:
        """Whether INT8 may stand in for fp32. A verdict that differs did so across a cut point, by less than the
        largest shift, since both use the same cut points."""
        return self.shift <= MAX_SHIFT and (self.auc_shift is None or abs(self.auc_shift) <= MAX_AUC_SHIFT)


@dataclass(frozen=True)
class Record:
    """What ``X.int8.json`` holds."""

    checkpoint_sha256: str
    xml_sha256: str
    bin_sha256: str
    made_with: str
    comparisons: tuple[Comparison, ...]
    #: What the INT8 form says of :func:`probe`: a logit of malignancy over benignity for each patch.
    probe: tuple[float, ...] = ()

    @property
    def passed(self) -> bool:
        return bool(self.comparisons) and all(comparison.passed for comparison in self.comparisons)

    def write(self, checkpoint: Path) -> None:
        path_of(checkpoint, "json").write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def describe(one: Comparison) -> str:
    """A comparison in words."""
    auc = "" if one.auc_shift is None else f", AUC moves by {one.auc_shift:+.4f}"
    return (
        f"{one.slides} slides: probability moves by at most {one.shift:.4f} (mean {one.mean_shift:.4f}), verdicts that "
        f"differ {one.verdicts}, 99 % of patch logits within {one.logit_shift:.3f}{auc}; "
        + ("agrees" if one.passed else "disagrees")
    )


def probe(count: int = 8) -> NDArray[np.uint8]:
    """Patches that every machine draws alike, uint8 (count, 224, 224, 3): blots in the colours of H&E."""
    random = np.random.default_rng(20)
    coarse = random.normal(0, 45, (count, 14, 14, 3)).repeat(16, axis=1).repeat(16, axis=2)
    fine = random.normal(0, 12, (count, 224, 224, 3))
    return np.clip(np.array([195, 140, 190]) + coarse + fine, 0, 255).astype(np.uint8)


def answer(infer: Callable[[NDArray[np.uint8]], Any], batch_size: int) -> tuple[float, ...]:
    """What a runtime says of :func:`probe`, as :attr:`Record.probe` has it."""
    patches = probe()
    found = [infer(patches[at : at + batch_size])[0] for at in range(0, len(patches), batch_size)]
    return tuple(float(malignant - benign) for benign, malignant in np.concatenate(found))


def is_true(found: tuple[float, ...], record: Record) -> bool:
    """Whether an INT8 network that was just made says what it said when its record was written.

    Now and then OpenVINO (2026.4) makes one of wrong numbers where the process had other networks before: some tenths
    of probability on every image, until it is made anew.
    """
    return not record.probe or float(np.abs(np.subtract(found, record.probe)).max()) <= MAX_PROBE_SHIFT


def has_vnni() -> bool:
    """Whether this processor adds 8-bit products exactly (AVX-512 VNNI or AVX-VNNI); False where it can't be told."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return False
    return bool(flags and {"avx512_vnni", "avx_vnni"} & set(flags[1].split()))


def path_of(checkpoint: Path, suffix: str) -> Path:
    """``X.int8.<suffix>`` beside ``X.safetensors``."""
    return checkpoint.with_name(f"{checkpoint.stem}.int8.{suffix}")


def read_record(checkpoint: Path) -> Record | None:
    """The record beside a checkpoint, or None where there is none that can be read."""
    try:
        values = json.loads(path_of(checkpoint, "json").read_text(encoding="utf-8"))
        values["comparisons"] = tuple(Comparison(**each) for each in values["comparisons"])
        values["probe"] = tuple(float(value) for value in values.get("probe", ()))
        return Record(**values)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def find(checkpoint: Path, checkpoint_sha256: str) -> Path | None:
    """The INT8 graph to use for a checkpoint, or None: it is absent, altered, of another checkpoint, or disagreed."""
    record = read_record(checkpoint)
    if record is None or not record.passed or record.checkpoint_sha256 != checkpoint_sha256:
        return None
    xml, weights = path_of(checkpoint, "xml"), path_of(checkpoint, "bin")
    try:
        intact = sha256(xml) == record.xml_sha256 and sha256(weights) == record.bin_sha256
    except OSError:
        return None
    return xml if intact else None
