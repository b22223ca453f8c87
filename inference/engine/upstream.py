"""Import of PyTorch checkpoints of ResNet50 networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from .checkpoint import CheckpointError, Metadata, foreign, save
from .network import build, load_state


def import_upstream(pth: Path | str, out: Path | str, name: str = "upstream", version: str = "1") -> str:
    """Convert a PyTorch checkpoint of torchvision's ResNet50 with two classes to an uncalibrated checkpoint.

    Accepts what :func:`read_state` does, with a head at ``fc`` or ``fc.1``. Returns the SHA-256 of the written file.
    Raises CheckpointError.
    """
    pth = Path(pth)
    arrays = read_state(pth)
    metadata = Metadata(name=name, version=version, training={"source": f"imported from {pth.name}"})

    load_state(build(metadata), arrays)
    return save(out, arrays, metadata)


def read_state(pth: Path) -> dict[str, np.ndarray]:
    """The arrays of a PyTorch state dict, as fp32 and under torchvision's key names.

    Accepts a bare state dict or one under ``model_state_dict``, ``state_dict`` or ``model``; keys may have a prefix
    ``module.``, ``model.``, ``backbone.`` or ``resnet.``. Only tensors are unpickled. Raises CheckpointError
    (``missing``, ``corrupt``, ``foreign``).
    """
    if not pth.is_file():
        raise CheckpointError("missing", f"There is no file at {pth}.")
    try:
        content = torch.load(pth, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises nearly anything on damaged data
        raise CheckpointError(
            "corrupt",
            f"{pth.name} is damaged, or contains objects other than weights, which are not loaded for safety.",
        ) from error
    for key in ("model_state_dict", "state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise foreign("it contains no state dict")
    return {_plain_key(key): value.float().numpy() for key, value in content.items()}


def _plain_key(key: str) -> str:
    for prefix in ("module.", "model.", "backbone.", "resnet."):
        key = key.removeprefix(prefix)
    return key.replace("fc.1.", "fc.") if key.startswith("fc.1.") else key
