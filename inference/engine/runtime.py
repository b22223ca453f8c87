"""What executes the network. A runtime takes patches of one fixed batch shape and nothing else."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from . import quantised
from .checkpoint import CheckpointError, Metadata, load_arrays, read_metadata, sha256

#: A field of 700x460 has 12 patches, so batches of 4 leave no padding there; larger batches gain
#: nothing on CPUs.
BATCH_SIZE = 4

Device = Literal["auto", "cpu", "cuda", "int8", "fp32", "torch"]
DEVICES: tuple[Device, ...] = ("auto", "cpu", "cuda", "int8", "fp32", "torch")
Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]


class Runtime(Protocol):
    """Executes one model version.

    ``infer`` takes uint8 (batch_size, 224, 224, 3) and returns float32 logits (batch_size, 2) and
    float32 activation maps (batch_size, 2, 7, 7), class 0 benign and 1 malignant. The same batch
    gives the same bits.
    """

    name: str
    batch_size: int
    metadata: Metadata

    def infer(self, batch: NDArray[np.uint8]) -> Outputs: ...


class TorchRuntime:
    """PyTorch: the reference on a CPU in fp32, and on CUDA in half precision."""

    def __init__(self, path: Path, device: str = "cpu", threads: int | None = None) -> None:
        import torch

        from .network import from_checkpoint

        if threads:
            torch.set_num_threads(threads)
        self._torch = torch
        self._device = torch.device(device)
        network, self.metadata = from_checkpoint(path)
        network.eval().to(self._device)
        self._half = self._device.type == "cuda"
        self._network = network.half() if self._half else network
        self.name = "torch-cuda-fp16" if self._half else "torch-cpu-fp32"
        self.batch_size = 64 if self._half else BATCH_SIZE

    def infer(self, batch: NDArray[np.uint8]) -> Outputs:
        torch = self._torch
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).to(self._device).permute(0, 3, 1, 2).contiguous()
            logits, cams = self._network(pixels.half() if self._half else pixels.float())
            return logits.float().cpu().numpy(), cams.float().cpu().numpy()


class OpenVinoRuntime:
    """OpenVINO on a CPU: the same graph as torch's, some times as fast, without importing torch.

    In fp32, or in INT8 where ``graph_file`` is the quantised graph of the checkpoint.
    """

    batch_size = BATCH_SIZE

    def __init__(self, path: Path, threads: int | None = None, graph_file: Path | None = None) -> None:
        import openvino as ov

        from . import graph

        self.metadata, _ = read_metadata(path)
        self.name = "openvino-cpu-int8" if graph_file else "openvino-cpu-fp32"
        if graph_file:
            model = ov.Core().read_model(graph_file)
        else:
            model = graph.build(load_arrays(path), self.metadata, self.batch_size)
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            # Machines with bf16 would use it unasked, and give other numbers than those without.
            "INFERENCE_PRECISION_HINT": "f32",
            # Pinned, the threads of several processes would share the first core.
            "ENABLE_CPU_PINNING": False,
            **({"INFERENCE_NUM_THREADS": threads} if threads else {}),
        }
        self._request = ov.Core().compile_model(model, "CPU", config).create_infer_request()

    def infer(self, batch: NDArray[np.uint8]) -> Outputs:
        results = self._request.infer([batch])
        return np.array(results[0], dtype=np.float32), np.array(results[1], dtype=np.float32)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cuda_present() -> bool:
    """Whether an NVIDIA driver is loaded; torch is imported only then."""
    if not (Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()):
        return False
    import torch

    return torch.cuda.is_available()


def load(path: Path, device: Device = "auto", threads: int | None = None) -> Runtime:
    """The runtime for a checkpoint on this machine.

    ``device`` is ``cuda``; ``int8`` or ``fp32`` (OpenVINO); ``torch`` (the reference, on a CPU); ``cpu`` (the
    fastest of these that agrees with the reference); or ``auto`` (CUDA where present, else the CPU). Raises
    :class:`inference.engine.checkpoint.CheckpointError` for a file that can't be used.
    """
    if device not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(DEVICES)}, not {device!r}")
    threads = threads or available_cores()
    if device == "cuda" or (device == "auto" and _cuda_present()):
        return TorchRuntime(path, "cuda", threads)
    if device == "torch" or find_spec("openvino") is None:
        return TorchRuntime(path, "cpu", threads)
    graph_file = None if device == "fp32" else quantised.find(path, sha256(path))
    if device == "int8" and graph_file is None:
        raise CheckpointError("missing", f"{path.name} has no INT8 form that passed its comparison.")
    return OpenVinoRuntime(path, threads, graph_file)
