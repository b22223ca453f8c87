"""Runtimes: they execute the network on batches of patches of a fixed shape."""

from __future__ import annotations

import logging
import os
from functools import partial
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

#: On CPUs larger batches are not faster. A field of 700x460 pixels has 12 patches, which fill six batches.
BATCH_SIZE = 2
MAX_STREAMS = 6

Device = Literal["auto", "cpu", "cuda", "int8", "bf16", "fp32", "torch", "torch-bf16"]
DEVICES: tuple[Device, ...] = ("auto", "cpu", "cuda", "int8", "bf16", "fp32", "torch", "torch-bf16")
NO_VNNI = "INT8 needs a processor with VNNI instructions, which this one does not have"
NO_BF16 = "OpenVINO does not support bf16 on this processor"
WRONG = "The {form} network failed its self-test, so this process uses fp32 instead."
Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]


class Runtime(Protocol):
    """Executes one model version.

    ``infer`` takes pixels uint8 (batch_size, 224, 224, 3) and returns float32 logits (batch_size, 2) and class
    activation maps (batch_size, 2, 7, 7), class 0 benign and 1 malignant. It is deterministic. Up to ``streams``
    threads may call it at the same time.
    """

    name: str
    batch_size: int
    streams: int
    metadata: Metadata
    #: A sentence for each faster form that is damaged or failed its self-test; this runtime may then be a slower one.
    problems: list[str]

    def infer(self, batch: NDArray[np.uint8]) -> Outputs: ...


class TorchRuntime:
    """PyTorch: fp32 on a CPU, which is the reference; fp16 on CUDA; with ``bf16``, bf16 on a CPU."""

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
            network = fold_batchnorm(network).to(memory_format=torch.channels_last)
        self._network = network.eval().to(self._device, self._dtype)
        self.name = "torch-cuda-fp16" if cuda else f"torch-cpu-{'bf16' if bf16 else 'fp32'}"
        self.batch_size = 64 if cuda else BATCH_SIZE
        self.streams = 1
        self.problems: list[str] = []

    def infer(self, batch: NDArray[np.uint8]) -> Outputs:
        torch = self._torch
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).to(self._device).permute(0, 3, 1, 2)
            if self._dtype == torch.float32:
                pixels = pixels.contiguous()
            logits, cams = self._network(pixels.to(self._dtype))
            return logits.float().cpu().numpy(), cams.float().cpu().numpy()


class OpenVinoRuntime:
    """OpenVINO on a CPU: the same network as PyTorch's, several times as fast, and without importing torch.

    Runs in fp32, in INT8 if ``graph_file`` is the quantised graph of the checkpoint, or in ``bf16``. Raises
    :class:`inference.engine.checkpoint.CheckpointError` for bf16 on a processor without it.

    Each core runs its own copy of the network on its own batches. If cores shared a batch they would wait for each
    other, which costs a quarter of the speed when other processes need a core. The copies are compiled one after the
    other for a single stream, because OpenVINO sometimes compiles a wrong INT8 network for several streams; see
    docs/model/openvino-int8-race.md.
    """

    batch_size = BATCH_SIZE

    def __init__(
        self, path: Path, threads: int | None = None, graph_file: Path | None = None, bf16: bool = False
    ) -> None:
        import openvino as ov

        from . import graph

        self.metadata, _ = read_metadata(path)
        self.problems: list[str] = []
        self.name = f"openvino-cpu-{'int8' if graph_file else 'bf16' if bf16 else 'fp32'}"
        core = ov.Core()
        if graph_file:
            model = core.read_model(graph_file)
            model.reshape([self.batch_size, PATCH, PATCH, 3])
        else:
            model = graph.build(load_arrays(path), self.metadata, self.batch_size)
        self.threads = threads or available_cores()
        self.streams = min(self.threads, MAX_STREAMS)
        config = {
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self.threads // self.streams,
            # By default OpenVINO uses bf16 where available, so results would depend on the machine.
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            # With pinning, the threads of several processes would all use the first cores.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = [core.compile_model(model, "CPU", config) for _ in range(self.streams)]
        if bf16 and compiled[0].get_property("INFERENCE_PRECISION_HINT") != ov.Type.bf16:
            raise CheckpointError("missing", f"{NO_BF16}.")
        self._requests = [one.create_infer_request() for one in compiled]
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for request in self._requests:
            self._idle.put(request)

    def infer(self, batch: NDArray[np.uint8]) -> Outputs:
        request = self._idle.get()
        try:
            return self._run(request, batch)
        finally:
            self._idle.put(request)

    @staticmethod
    def _run(request: Any, batch: NDArray[np.uint8]) -> Outputs:
        results = request.infer([batch])
        return np.array(results[0], dtype=np.float32), np.array(results[1], dtype=np.float32)

    def passes_self_test(self, record: quantised.Record) -> bool:
        """Whether every compiled network agrees with the record. Not to be called concurrently with :meth:`infer`."""
        return all(
            quantised.matches_record(quantised.probe_logits(partial(self._run, request), self.batch_size), record)
            for request in self._requests
        )


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cuda_present() -> bool:
    """Whether an NVIDIA driver is loaded; torch is imported only then."""
    if not (Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()):
        return False
    import torch

    return torch.cuda.is_available()


def load(path: Path, device: Device = "auto", threads: int | None = None) -> Runtime:
    """The runtime for a checkpoint on this machine.

    ``device`` is one of

    - ``auto``: CUDA if present, otherwise ``cpu``;
    - ``cpu``: the fastest of INT8, bf16 and fp32 that this processor supports and that passed its comparison with fp32
      (see :func:`inference.engine.quantised.fastest`);
    - ``int8``, ``bf16``, ``fp32``: OpenVINO;
    - ``torch`` (the reference), ``torch-bf16``: PyTorch on a CPU;
    - ``cuda``: PyTorch on a GPU.

    If INT8 or bf16 is damaged or fails its self-test, the error is logged, fp32 is used and the runtime's ``problems``
    name it. Raises :class:`inference.engine.checkpoint.CheckpointError` for a file that can't be used, and if INT8 or
    bf16 was requested but is not available. Raises ValueError for another ``device``.
    """
    if device not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(DEVICES)}, not {device!r}")
    threads = threads or available_cores()
    if device == "cuda" or (device == "auto" and _cuda_present()):
        return TorchRuntime(path, "cuda", threads)
    if device in ("torch", "torch-bf16") or find_spec("openvino") is None:
        return TorchRuntime(path, "cpu", threads, bf16=device == "torch-bf16")
    if device == "fp32":
        return OpenVinoRuntime(path, threads)
    digest = sha256(path)
    damaged = quantised.problems(path, digest)
    for problem in damaged:
        log.error("A faster form is damaged. %s", problem)
    form = _fastest_form(path, digest) if device in ("auto", "cpu") else device
    if form == "int8":
        made = _checked(OpenVinoRuntime(path, threads, _int8_graph(path, digest)), path, "int8")
    elif form == "bf16":
        made = _checked(OpenVinoRuntime(path, threads, bf16=True), path, "bf16")
    else:
        made = OpenVinoRuntime(path, threads)
    made.problems = damaged + made.problems
    return made


def _fastest_form(path: Path, digest: str) -> str:
    """The form to use by default. Forms with damaged files are not used."""
    passed = quantised.passed(path, digest)
    return quantised.fastest(passed, vnni=quantised.has_vnni(), amx_bf16=quantised.has_amx_bf16())


def _int8_graph(path: Path, digest: str) -> Path:
    if not quantised.has_vnni():
        raise CheckpointError("missing", f"{NO_VNNI}.")
    graph_file = quantised.find(path, digest)
    if graph_file is None:
        raise CheckpointError("missing", f"{path.name} has no INT8 form that passed its comparison with fp32.")
    return graph_file


def _checked(made: OpenVinoRuntime, path: Path, form: quantised.Form) -> OpenVinoRuntime:
    """The runtime if it passes its self-test, otherwise an fp32 runtime whose ``problems`` name it."""
    record = quantised.read_record(path, form)
    if record is None or made.passes_self_test(record):
        return made
    threads = made.threads
    del made
    safe = OpenVinoRuntime(path, threads)
    safe.problems.append(WRONG.format(form=form))
    log.error(safe.problems[0])
    return safe
