"""What executes the network. A runtime takes patches of one fixed batch shape and nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .checkpoint import Metadata

#: A field of 700x460 has 12 patches, so batches of 4 leave no padding there; larger batches gain
#: nothing on CPUs.
BATCH_SIZE = 4


class Runtime(Protocol):
    """Executes one model version.

    ``infer`` takes uint8 (batch_size, 224, 224, 3) and returns float32 logits (batch_size, 2) and
    float32 activation maps (batch_size, 2, 7, 7), class 0 benign and 1 malignant. The same batch
    gives the same bits.
    """

    name: str
    batch_size: int
    metadata: Metadata

    def infer(self, batch: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...


class TorchRuntime:
    """PyTorch in fp32 on a CPU, or on CUDA in half precision."""

    batch_size = BATCH_SIZE

    def __init__(self, path: Path, device: str = "cpu", threads: int | None = None) -> None:
        import torch

        from .network import from_checkpoint

        if threads:
            torch.set_num_threads(threads)
        self._torch = torch
        self._device = torch.device(device)
        network, self.metadata = from_checkpoint(path)
        network.eval().to(self._device).to(memory_format=torch.channels_last)
        self._half = self._device.type == "cuda"
        self._network = network.half() if self._half else network
        self.name = "torch-cuda-fp16" if self._half else "torch-cpu-fp32"

    def infer(self, batch: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        torch = self._torch
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).to(self._device).permute(0, 3, 1, 2)
            pixels = pixels.half() if self._half else pixels.float()
            logits, cams = self._network(pixels)
            return logits.float().cpu().numpy(), cams.float().cpu().numpy()


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load(path: Path, device: str = "auto", threads: int | None = None) -> Runtime:
    """The runtime for a checkpoint on this machine.

    ``device`` is ``auto`` (CUDA where present, else the CPU), ``cpu`` or ``cuda``. Raises
    :class:`inference.engine.checkpoint.CheckpointError` for a file that can't be used.
    """
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    return TorchRuntime(path, device, threads or available_cores())
