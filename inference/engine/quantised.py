"""An INT8 form of a checkpoint's graph that lies beside it, and the gate it passed. Used only if both hold.

``X.safetensors`` may have ``X.int8.xml`` and ``X.int8.bin`` (the graph, OpenVINO's format) and ``X.int8.json``, the
record that ``manage.py model optimize`` wrote: checksums of the checkpoint and of both files, and how the INT8 form
compared with the fp32 one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from .checkpoint import sha256

#: A slide's probability may move by so much (and so a verdict only across a cut point nearer than that).
MAX_SHIFT = 0.02
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

    @property
    def passed(self) -> bool:
        return bool(self.comparisons) and all(comparison.passed for comparison in self.comparisons)

    def write(self, checkpoint: Path) -> None:
        path_of(checkpoint, "json").write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def path_of(checkpoint: Path, suffix: str) -> Path:
    """``X.int8.<suffix>`` beside ``X.safetensors``."""
    return checkpoint.with_name(f"{checkpoint.stem}.int8.{suffix}")


def read_record(checkpoint: Path) -> Record | None:
    """The record beside a checkpoint, or None where there is none that can be read."""
    try:
        values = json.loads(path_of(checkpoint, "json").read_text(encoding="utf-8"))
        values["comparisons"] = tuple(Comparison(**each) for each in values["comparisons"])
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
