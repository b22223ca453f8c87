"""What executes the network. A runtime takes patches of one fixed batch shape and nothing else."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from . import quantised
from .checkpoint import CheckpointError, Metadata, load_arrays, read_metadata, sha256
from .grid import PATCH

log = logging.getLogger(__name__)

#: Larger batches gain nothing on CPUs, and a field of 700x460, which has 12 patches, fills six of these.
BATCH_SIZE = 2
MAX_STREAMS = 6

Device = Literal["auto", "cpu", "cuda", "int8", "bf16", "fp32", "torch", "torch-bf16"]
DEVICES: tuple[Device, ...] = ("auto", "cpu", "cuda", "int8", "bf16", "fp32", "torch", "torch-bf16")
NO_VNNI = "INT8 needs a processor with VNNI instructions, which this one lacks"
Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]


class Runtime(Protocol):
    """Executes one model version.

    ``infer`` takes uint8 (batch_size, 224, 224, 3) and returns float32 logits (batch_size, 2) and
    float32 activation maps (batch_size, 2, 7, 7), class 0 benign and 1 malignant. The same batch
    gives the same bits. As many as ``streams`` threads may call it at once.
    """

    name: str
    batch_size: int
    streams: int
    metadata: Metadata

    def infer(self, batch: NDArray[np.uint8]) -> Outputs: ...


class TorchRuntime:
    """PyTorch: the reference on a CPU in fp32; half precision on CUDA (fp16) and, with ``bf16``, on a CPU."""

    def __init__(self, path: Path, device: str = "cpu", threads: int | None = None, bf16: bool = False) -> None:
        import torch

        from .network import fold_batchnorm, from_checkpoint

        if threads:
            torch.set_num_threads(threads)
        self._torch = torch
        self._device = torch.device(device)
        cuda = self._device.type == "cuda"
        self._dtype = torch.float16 if cuda else torch.bfloat16 if bf16 else torch.float32
        network, self.metadata = from_checkpoint(path)
        if self._dtype != torch.float32:
            network = fold_batchnorm(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = network.eval().to(self._device, self._dtype)
        self.name = "torch-cuda-fp16" if cuda else f"torch-cpu-{'bf16' if bf16 else 'fp32'}"
        self.batch_size = 64 if cuda else BATCH_SIZE
        self.streams = 1

    def infer(self, batch: NDArray[np.uint8]) -> Outputs:
        torch = self._torch
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).to(self._device).permute(0, 3, 1, 2)
            if self._dtype == torch.float32:
                pixels = pixels.contiguous()
            logits, cams = self._network(pixels.to(self._dtype))
            return logits.float().cpu().numpy(), cams.float().cpu().numpy()


class OpenVinoRuntime:
    """OpenVINO on a CPU: the same graph as torch's, some times as fast, without importing torch.

    Batches run side by side, each on its share of the threads: cores that share one batch wait for each other,
    which costs a quarter of the speed as soon as something else wants a core.

    In fp32; in INT8 where ``graph_file`` is the quantised graph of the checkpoint; or in ``bf16``.
    """

    batch_size = BATCH_SIZE

    def __init__(
        self, path: Path, threads: int | None = None, graph_file: Path | None = None, bf16: bool = False
    ) -> None:
        import openvino as ov

        from . import graph

        self.metadata, _ = read_metadata(path)
        self.name = f"openvino-cpu-{'int8' if graph_file else 'bf16' if bf16 else 'fp32'}"
        if graph_file:
            model = ov.Core().read_model(graph_file)
            model.reshape([self.batch_size, PATCH, PATCH, 3])
        else:
            model = graph.build(load_arrays(path), self.metadata, self.batch_size)
        threads = threads or available_cores()
        self.streams = min(threads, MAX_STREAMS)
        config = {
            "NUM_STREAMS": self.streams,
            "INFERENCE_NUM_THREADS": threads,
            # Machines with bf16 would use it unasked, and give other numbers than those without.
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            # Pinned, the threads of several processes would share the first core.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = ov.Core().compile_model(model, "CPU", config)
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.streams):
            self._idle.put(compiled.create_infer_request())

    def infer(self, batch: NDArray[np.uint8]) -> Outputs:
        request = self._idle.get()
        try:
            results = request.infer([batch])
            return np.array(results[0], dtype=np.float32), np.array(results[1], dtype=np.float32)
        finally:
            self._idle.put(request)


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

    ``device`` is ``cuda``; ``int8``, ``fp32`` or ``bf16`` (OpenVINO); ``torch`` or ``torch-bf16`` (PyTorch on a CPU,
    the former is the reference); ``cpu`` (INT8 where the machine has VNNI and the checkpoint an INT8 form that agreed
    with fp32, else fp32); or ``auto`` (CUDA where present, else ``cpu``). bf16 is used only where it is asked for: it
    agrees less well than INT8 and is slower. Raises :class:`inference.engine.checkpoint.CheckpointError` for a file
    that can't be used and for INT8 where there is none.
    """
    if device not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(DEVICES)}, not {device!r}")
    threads = threads or available_cores()
    if device == "cuda" or (device == "auto" and _cuda_present()):
        return TorchRuntime(path, "cuda", threads)
    if device in ("torch", "torch-bf16") or find_spec("openvino") is None:
        return TorchRuntime(path, "cpu", threads, bf16=device == "torch-bf16")
    if device in ("fp32", "bf16"):
        return OpenVinoRuntime(path, threads, bf16=device == "bf16")
    graph_file = quantised.find(path, sha256(path)) if quantised.has_vnni() else None
    if device == "int8" and graph_file is None:
        why = f"{path.name} has no INT8 form that passed its comparison" if quantised.has_vnni() else NO_VNNI
        raise CheckpointError("missing", f"{why}.")
    return _true_int8(path, threads, graph_file) if graph_file else OpenVinoRuntime(path, threads)


#: How often an INT8 network that came out wrong is made anew before fp32 takes its place.
ATTEMPTS = 5


def _true_int8(path: Path, threads: int, graph_file: Path) -> Runtime:
    """The INT8 runtime, once it says what its record says; see :func:`inference.engine.quantised.is_true`."""
    record = quantised.read_record(path)
    assert record is not None
    for attempt in range(ATTEMPTS):
        made = OpenVinoRuntime(path, threads, graph_file)
        if quantised.is_true(quantised.answer(made.infer, made.batch_size), record):
            return made
        log.warning("The INT8 network came out wrong (attempt %d of %d).", attempt + 1, ATTEMPTS)
    log.error("INT8 is not to be trusted in this process; using fp32.")
    return OpenVinoRuntime(path, threads)
