"""The INT8 and bf16 forms of a checkpoint, and the comparison with fp32 that each must pass before it is used.

Next to ``X.safetensors`` there may be

- ``X.int8.xml`` and ``X.int8.bin``, the quantised graph in OpenVINO's format, with its record ``X.int8.json``;
- ``X.bf16.json``, only a record, because bf16 uses the checkpoint itself.

``manage.py model optimize`` writes a record. It holds checksums and the comparison with fp32. A form is chosen
automatically only if its record says that it passed.

INT8 convolutions use VNNI instructions, whose sums are exact. Processors without VNNI saturate at 16 bits and would
give different results, so they use fp32. bf16 is fast only with AMX; without bf16 support OpenVINO silently uses fp32.
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

#: Largest accepted change of a slide's probability.
MAX_SHIFT = 0.02
#: Largest accepted difference of a probe's logit from the record. Between machines, correct networks differ by less.
MAX_PROBE_SHIFT = 0.1
#: Largest accepted change of the group-weighted AUC.
MAX_AUC_SHIFT = 0.002


@dataclass(frozen=True)
class Comparison:
    """Comparison of a form with fp32 on a set of slides, which ``what`` describes.

    ``shift`` is the largest absolute difference of a slide's calibrated probability, ``mean_shift`` the mean,
    ``verdicts`` the number of slides with different results, ``logit_shift`` the 99th percentile of the absolute
    differences of patch logits, ``auc_shift`` the difference of the group-weighted AUC (None with only one class).
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
        """Whether the form may replace fp32. Different results alone do not fail it: they occur only on slides whose
        probability is within ``shift`` of a threshold."""
        return self.shift <= MAX_SHIFT and (self.auc_shift is None or abs(self.auc_shift) <= MAX_AUC_SHIFT)


@dataclass(frozen=True)
class Record:
    """Content of ``X.int8.json`` or ``X.bf16.json``. The checksums of the graph files are empty for bf16."""

    checkpoint_sha256: str
    xml_sha256: str
    bin_sha256: str
    made_with: str
    comparisons: tuple[Comparison, ...]
    #: Outputs of the form for :func:`probe`: malignant minus benign logit of each patch.
    probe: tuple[float, ...] = ()
    form: Form = "int8"

    @property
    def passed(self) -> bool:
        return bool(self.comparisons) and all(comparison.passed for comparison in self.comparisons)

    def write(self, checkpoint: Path) -> None:
        path_of(checkpoint, "json", self.form).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def describe(one: Comparison) -> str:
    """A comparison as a line of text."""
    auc = "" if one.auc_shift is None else f", AUC moves by {one.auc_shift:+.4f}"
    return (
        f"{one.slides} slides: probability moves by at most {one.shift:.4f} (mean {one.mean_shift:.4f}), verdicts that "
        f"differ {one.verdicts}, 99 % of patch logits within {one.logit_shift:.3f}{auc}; "
        + ("agrees" if one.passed else "disagrees")
    )


#: Patches of the probe.
PROBES = 8


def probe(count: int = PROBES) -> NDArray[np.uint8]:
    """Patches uint8 (count, 224, 224, 3) for a self-test, the same on every machine: random blobs in H&E colours."""
    random = np.random.default_rng(20)
    coarse = random.normal(0, 45, (count, 14, 14, 3)).repeat(16, axis=1).repeat(16, axis=2)
    fine = random.normal(0, 12, (count, 224, 224, 3))
    return np.clip(np.array([195, 140, 190]) + coarse + fine, 0, 255).astype(np.uint8)


def probe_logits(infer: Callable[[NDArray[np.uint8]], Any], batch_size: int) -> tuple[float, ...]:
    """Outputs of a runtime for :func:`probe`, in the form of :attr:`Record.probe`."""
    patches = probe()
    found = [infer(patches[at : at + batch_size])[0] for at in range(0, len(patches), batch_size)]
    return tuple(float(malignant - benign) for benign, malignant in np.concatenate(found))


def matches_record(found: tuple[float, ...], record: Record) -> bool:
    """Whether the :func:`probe_logits` of a compiled network agree with its record.

    OpenVINO 2026.4 compiles a wrong INT8 network in some 6 % of the cases if it is compiled for several streams; see
    docs/model/openvino-int8-race.md. Networks for one stream never failed this check.
    """
    return not record.probe or float(np.abs(np.subtract(found, record.probe)).max()) <= MAX_PROBE_SHIFT


def instructions() -> frozenset[str]:
    """The processor's flags under Linux's names; empty if they can't be read."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return frozenset()
    return frozenset(flags[1].split()) if flags else frozenset()


def has_vnni() -> bool:
    """Whether this processor sums 8-bit products exactly (AVX-512 VNNI or AVX-VNNI)."""
    return bool({"avx512_vnni", "avx_vnni"} & instructions())


def has_amx_bf16() -> bool:
    """Whether this processor has matrix instructions for bf16 (AMX)."""
    return "amx_bf16" in instructions()


def fastest(passed: Collection[str], vnni: bool, amx_bf16: bool) -> Literal["bf16", "int8", "fp32"]:
    """The fastest form among those that passed, on a processor with these instructions.

    Measured with AMX, in patches per second (docs/performance.md): bf16 423, INT8 373, fp32 66.
    """
    if amx_bf16 and "bf16" in passed:
        return "bf16"
    return "int8" if vnni and "int8" in passed else "fp32"


def path_of(checkpoint: Path, suffix: str, form: Form = "int8") -> Path:
    """Path of ``X.<form>.<suffix>``, next to the checkpoint ``X.safetensors``."""
    return checkpoint.with_name(f"{checkpoint.stem}.{form}.{suffix}")


def _read(checkpoint: Path, form: Form) -> Record:
    """The record of a form. Raises FileNotFoundError, or other errors if it is damaged."""
    values = json.loads(path_of(checkpoint, "json", form).read_text(encoding="utf-8"))
    values["comparisons"] = tuple(Comparison(**each) for each in values["comparisons"])
    values["probe"] = tuple(float(value) for value in values.get("probe", ()))
    record = Record(**values)
    if record.form != form:
        raise ValueError(f"the record is for the form {record.form}")
    if len(record.probe) not in (0, PROBES):
        raise ValueError(f"the record has {len(record.probe)} answers to the probe")
    # Raises TypeError for figures that are not numbers.
    bool(record.passed)
    return record


def read_record(checkpoint: Path, form: Form = "int8") -> Record | None:
    """The record of a form of a checkpoint, or None if there is none or it can't be read."""
    try:
        return _read(checkpoint, form)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def problem(checkpoint: Path, checkpoint_sha256: str, form: Form) -> str | None:
    """A sentence about missing or damaged files of a form; None if they are intact or if there is no such form."""
    name = path_of(checkpoint, "json", form).name
    try:
        record = _read(checkpoint, form)
        if record.checkpoint_sha256 != checkpoint_sha256:
            return f"{name} belongs to another checkpoint."
        if form == "int8":
            for suffix, expected in (("xml", record.xml_sha256), ("bin", record.bin_sha256)):
                if sha256(path_of(checkpoint, suffix)) != expected:
                    return f"{path_of(checkpoint, suffix).name} does not have the checksum in {name}."
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        return None if missing == name else f"{missing} is missing, but {name} refers to it."
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return f"{name} or a file that it refers to can't be read ({type(error).__name__})."
    return None


def problems(checkpoint: Path, checkpoint_sha256: str) -> list[str]:
    """A sentence for each form of a checkpoint whose files are damaged."""
    return [found for form in FORMS if (found := problem(checkpoint, checkpoint_sha256, form))]


def passed(checkpoint: Path, checkpoint_sha256: str) -> set[Form]:
    """The forms of a checkpoint whose files are intact and whose comparison passed."""
    return {form for form in FORMS if _is_usable(checkpoint, checkpoint_sha256, form)}


def _is_usable(checkpoint: Path, checkpoint_sha256: str, form: Form) -> bool:
    record = read_record(checkpoint, form)
    return record is not None and record.passed and problem(checkpoint, checkpoint_sha256, form) is None


def find(checkpoint: Path, checkpoint_sha256: str) -> Path | None:
    """The INT8 graph of a checkpoint; None if it is missing, damaged, of another checkpoint, or did not pass."""
    return path_of(checkpoint, "xml") if _is_usable(checkpoint, checkpoint_sha256, "int8") else None
