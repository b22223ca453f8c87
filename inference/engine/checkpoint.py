"""Checkpoint files: safetensors whose metadata describes how to run the model, how it was made and how good it is."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import tempfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

#: Key in the ``__metadata__`` of the safetensors header; its value is JSON.
KEY = "histopath"
#: Largest accepted header in bytes; those of this project have some 40 kB.
MAX_HEADER = 4_000_000
STRIDES = ("conv1", "conv2")
STEM_POOLS = ("ceil", "padded")
CLASSES = ("benign", "malignant")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BATCH_NORM = (".running_mean", ".running_var")


class CheckpointError(ValueError):
    """A checkpoint that can't be used, with a stable ``code`` and a sentence for the user.

    Codes: ``missing``, ``corrupt`` (damaged or truncated), ``foreign`` (not a histopath model), ``checksum`` (not the
    expected file), ``metadata`` (a value is too long to be registered).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Metadata:
    """The metadata of a checkpoint.

    ``stride_in`` names the convolution with the stride in the first bottleneck of a layer, ``stem_pool`` the variant of
    the max pool. ``mean`` and ``std`` are per RGB channel, for pixels scaled to 0..1. ``calibration`` holds ``slope``
    and ``intercept`` (see ``verdict.calibrate``) and is empty if uncalibrated. ``cut_low`` <= ``cut_high`` are the
    thresholds on the calibrated probability. ``domain`` holds the parameters of the domain check (see
    ``domain.check``), or None for no check.
    """

    name: str
    version: str
    architecture: str = "resnet50"
    stride_in: str = "conv2"
    stem_pool: str = "padded"
    classes: tuple[str, ...] = CLASSES
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    patch_size: int = 224
    calibration: dict[str, float] = field(default_factory=dict)
    cut_low: float = 0.5
    cut_high: float = 0.5
    calibrated: bool = False
    domain: dict[str, Any] | None = None
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Metadata:
        """Raises CheckpointError (``foreign``) for unknown or missing keys and for values out of range."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise foreign("its metadata is not JSON") from error
        if not isinstance(values, dict):
            raise foreign("its metadata is not a JSON object")
        known = {item.name for item in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise foreign(f"its metadata has unknown entries ({', '.join(unknown[:3])})")
        if missing := sorted({"name", "version"} - set(values)):
            raise foreign(f"its metadata lacks {', '.join(missing)}")
        for name in ("classes", "mean", "std"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        metadata = cls(**values)
        metadata.validate()
        return metadata

    def validate(self) -> None:
        """Raises CheckpointError (``foreign``) for a value that the engine does not support."""
        checks = {
            "name": isinstance(self.name, str) and 0 < len(self.name) <= 200,
            "version": isinstance(self.version, str) and 0 < len(self.version) <= 50,
            "architecture": self.architecture == "resnet50",
            "stride_in": self.stride_in in STRIDES,
            "stem_pool": self.stem_pool in STEM_POOLS,
            "classes": self.classes == CLASSES,
            "mean": _numbers(self.mean, 3),
            "std": _numbers(self.std, 3) and min(self.std) > 0,
            "patch_size": self.patch_size == 224,
            "cut_low": _numbers((self.cut_low, self.cut_high), 2) and 0 <= self.cut_low <= self.cut_high <= 1,
            "calibrated": isinstance(self.calibrated, bool),
            "calibration": isinstance(self.calibration, dict)
            and _numbers(tuple(self.calibration.values()), len(self.calibration))
            and set(self.calibration) in (set(), {"slope", "intercept"})
            and (not self.calibrated or bool(self.calibration)),
            "domain": self.domain is None or isinstance(self.domain, dict),
            "training": isinstance(self.training, dict),
            "metrics": isinstance(self.metrics, dict),
        }
        wrong = [name for name, good in checks.items() if not good]
        if wrong:
            raise foreign(f"its metadata has an invalid {wrong[0]}")


def _numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == count
        and all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values)
    )


def foreign(why: str) -> CheckpointError:
    """The CheckpointError for a file of another kind; ``why`` completes its sentence."""
    return CheckpointError("foreign", f"This is not a histopath checkpoint: {why}.")


def sha256(path: Path | str) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _header(path: Path) -> dict[str, Any]:
    """The safetensors header, checked against the size of the file."""
    if not path.is_file():
        raise CheckpointError("missing", f"There is no checkpoint at {path}.")
    size = path.stat().st_size
    damaged = CheckpointError("corrupt", f"The checkpoint {path.name} is damaged or truncated.")
    with open(path, "rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise damaged
        (length,) = struct.unpack("<Q", start)
        if length > min(MAX_HEADER, size - 8):
            raise foreign("it is not a safetensors file") if not _could_be_ours(path) else damaged
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise damaged from error
    if not isinstance(header, dict):
        raise damaged
    try:
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (KeyError, IndexError, TypeError) as error:
        raise damaged from error
    if 8 + length + max(ends, default=0) != size:
        raise damaged
    return header


def _could_be_ours(path: Path) -> bool:
    """Whether the file begins like a safetensors file, so that it is damaged rather than of another kind."""
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"


def read_metadata(path: Path | str, expected_sha256: str | None = None) -> tuple[Metadata, str]:
    """Metadata and SHA-256 of a checkpoint, without loading its arrays.

    Raises CheckpointError: ``missing``, ``corrupt``, ``foreign``, or ``checksum`` if the SHA-256 is not as expected.
    """
    path = Path(path)
    header = _header(path)
    notes = header.get("__metadata__")
    if not isinstance(notes, dict) or KEY not in notes:
        raise foreign("it has no histopath metadata")
    metadata = Metadata.from_json(notes[KEY])
    digest = sha256(path)
    if expected_sha256 is not None and digest != expected_sha256:
        raise CheckpointError("checksum", f"The checkpoint {path.name} has changed since it was registered.")
    return metadata, digest


def load_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """All arrays, under torchvision's key names and in the dtypes of the file. Raises CheckpointError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(path)
    _header(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError("corrupt", f"The checkpoint {path.name} is damaged or truncated.") from error


def _compact(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convolutions and linear layers in fp16; BatchNorm in fp32, because its values may exceed the range of fp16."""
    norms = {name[: -len(end)] for name in arrays for end in BATCH_NORM if name.endswith(end)}
    compact = {}
    for name, array in arrays.items():
        if name.endswith("num_batches_tracked"):
            continue
        dtype = np.float32 if name.rpartition(".")[0] in norms else np.float16
        with np.errstate(over="ignore"):
            compact[name] = np.ascontiguousarray(array, dtype=dtype)
        if not np.isfinite(compact[name]).all():
            raise CheckpointError("corrupt", f"The weights of {name} are not finite in {np.dtype(dtype).name}.")
    return compact


def save(path: Path | str, arrays: dict[str, np.ndarray], metadata: Metadata) -> str:
    """Write a checkpoint atomically and return its SHA-256.

    Convolutions and linear layers are stored in fp16, BatchNorm in fp32. Raises CheckpointError: ``corrupt`` if weights
    are not finite, ``foreign`` for invalid metadata.
    """
    from safetensors.numpy import save as serialise

    metadata.validate()
    content = serialise(_compact(arrays), metadata={KEY: metadata.to_json()})
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:  # raised again; no half-written file stays
        Path(temporary).unlink(missing_ok=True)
        raise
    return hashlib.sha256(content).hexdigest()
