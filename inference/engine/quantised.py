"""Faster forms of a checkpoint's network, INT8 and bf16, and the comparison with fp32 that each must have passed.

``X.safetensors`` may have beside it

- ``X.int8.xml`` and ``X.int8.bin`` (the quantised graph, OpenVINO's format) and ``X.int8.json``, their record;
- ``X.bf16.json``, a record alone: the graph is the checkpoint's own.

A record is written by ``manage.py model optimize``. It holds checksums and how the form compared with fp32. A form
without a record that passed is never chosen automatically.

INT8 convolutions use the VNNI instructions, whose sums are exact. Processors without them saturate at 16 bits and give
other figures, so they use fp32. bf16 is only fast with AMX; OpenVINO runs fp32 where the processor has no bf16.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .checkpoint import sha256

Form = Literal["int8", "bf16"]
FORMS: tuple[Form, ...] = ("int8", "bf16")

#: A slide's probability may move by so much (and so a verdict only across a cut point nearer than that).
MAX_SHIFT = 0.02
#: A logit of the probe may differ by so much from machine to machine.
MAX_PROBE_SHIFT = 0.1
#: The group-weighted AUC may move by so much.
MAX_AUC_SHIFT = 0.002


@dataclass(frozen=True)
class Comparison:
    """How a form compares with fp32 over some slides.

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
        """Whether the form may stand in for fp32. A verdict that differs did so across a cut point, by less than the
        largest shift, since both use the same cut points."""
        return self.shift <= MAX_SHIFT and (self.auc_shift is None or abs(self.auc_shift) <= MAX_AUC_SHIFT)


@dataclass(frozen=True)
class Record:
    """What ``X.int8.json`` or ``X.bf16.json`` holds. The checksums of graph files are empty for bf16."""

    checkpoint_sha256: str
    xml_sha256: str
    bin_sha256: str
    made_with: str
    comparisons: tuple[Comparison, ...]
    #: What the form says of :func:`probe`: a logit of malignancy over benignity for each patch.
    probe: tuple[float, ...] = ()
    form: Form = "int8"

    @property
    def passed(self) -> bool:
        return bool(self.comparisons) and all(comparison.passed for comparison in self.comparisons)

    def write(self, checkpoint: Path) -> None:
        path_of(checkpoint, "json", self.form).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def describe(one: Comparison) -> str:
    """A comparison in words."""
    auc = "" if one.auc_shift is None else f", AUC moves by {one.auc_shift:+.4f}"
    return (
        f"{one.slides} slides: probability moves by at most {one.shift:.4f} (mean {one.mean_shift:.4f}), verdicts that "
        f"differ {one.verdicts}, 99 % of patch logits within {one.logit_shift:.3f}{auc}; "
        + ("agrees" if one.passed else "disagrees")
    )


#: Patches of the probe.
PROBES = 8


def probe(count: int = PROBES) -> NDArray[np.uint8]:
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
    """Whether a network that was just compiled answers :func:`probe` as its record says.

    Where one compilation serves several streams, OpenVINO (2026.4) makes a wrong INT8 network in some 6 % of the
    compilations; see docs/model/openvino-int8-race.md. Networks of one stream never failed this check.
    """
    return not record.probe or float(np.abs(np.subtract(found, record.probe)).max()) <= MAX_PROBE_SHIFT


def instructions() -> frozenset[str]:
    """The processor's flags as Linux names them; empty where they can't be read."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return frozenset()
    return frozenset(flags[1].split()) if flags else frozenset()


def has_vnni() -> bool:
    """Whether this processor adds 8-bit products exactly (AVX-512 VNNI or AVX-VNNI)."""
    return bool({"avx512_vnni", "avx_vnni"} & instructions())


def has_amx_bf16() -> bool:
    """Whether this processor multiplies matrices of bf16 (AMX)."""
    return "amx_bf16" in instructions()


def fastest(passed: Collection[str], vnni: bool, amx_bf16: bool) -> Literal["bf16", "int8", "fp32"]:
    """The fastest form among those that passed, on a processor with these instructions.

    The order is that of docs/performance.md: with AMX, bf16 does 423 patches a second and INT8 373, fp32 66.
    """
    if amx_bf16 and "bf16" in passed:
        return "bf16"
    return "int8" if vnni and "int8" in passed else "fp32"


def path_of(checkpoint: Path, suffix: str, form: Form = "int8") -> Path:
    """``X.<form>.<suffix>`` beside ``X.safetensors``."""
    return checkpoint.with_name(f"{checkpoint.stem}.{form}.{suffix}")


def _read(checkpoint: Path, form: Form) -> Record:
    """The record of a form. Raises FileNotFoundError, and other errors for one that is damaged."""
    values = json.loads(path_of(checkpoint, "json", form).read_text(encoding="utf-8"))
    values["comparisons"] = tuple(Comparison(**each) for each in values["comparisons"])
    values["probe"] = tuple(float(value) for value in values.get("probe", ()))
    record = Record(**values)
    if record.form != form:
        raise ValueError(f"the record is of the form {record.form}")
    if len(record.probe) not in (0, PROBES):
        raise ValueError(f"the record has {len(record.probe)} answers to the probe")
    # Raises TypeError for figures that are no numbers.
    bool(record.passed)
    return record


def read_record(checkpoint: Path, form: Form = "int8") -> Record | None:
    """The record beside a checkpoint, or None where there is none that can be read."""
    try:
        return _read(checkpoint, form)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def problem(checkpoint: Path, checkpoint_sha256: str, form: Form) -> str | None:
    """What is wrong with a form's files: a sentence, or None where they are whole or there are none."""
    name = path_of(checkpoint, "json", form).name
    try:
        record = _read(checkpoint, form)
        if record.checkpoint_sha256 != checkpoint_sha256:
            return f"{name} belongs to another checkpoint."
        if form == "int8":
            for suffix, expected in (("xml", record.xml_sha256), ("bin", record.bin_sha256)):
                if sha256(path_of(checkpoint, suffix)) != expected:
                    return f"{path_of(checkpoint, suffix).name} is not the file that {name} was written for."
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        return None if missing == name else f"{missing} is missing, which {name} was written for."
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return f"{name} or what belongs to it can't be read ({type(error).__name__})."
    return None


def problems(checkpoint: Path, checkpoint_sha256: str) -> list[str]:
    """A sentence for each form of a checkpoint whose files are damaged."""
    return [found for form in FORMS if (found := problem(checkpoint, checkpoint_sha256, form))]


def passed(checkpoint: Path, checkpoint_sha256: str) -> set[Form]:
    """The forms of a checkpoint that are whole and agreed with fp32."""
    return {form for form in FORMS if _is_usable(checkpoint, checkpoint_sha256, form)}


def _is_usable(checkpoint: Path, checkpoint_sha256: str, form: Form) -> bool:
    record = read_record(checkpoint, form)
    return record is not None and record.passed and problem(checkpoint, checkpoint_sha256, form) is None


def find(checkpoint: Path, checkpoint_sha256: str) -> Path | None:
    """The INT8 graph to use for a checkpoint, or None: it is absent, altered, of another checkpoint, or disagreed."""
    return path_of(checkpoint, "xml") if _is_usable(checkpoint, checkpoint_sha256, "int8") else None
