"""Peak speed of this machine in a large matrix product, to compare the network's speed with."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from inference.engine import graph
from inference.engine.checkpoint import load_arrays, read_metadata

SIZE = 3072
RUNS = 5


def best(work: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest of ``times`` runs, after one run to warm up."""
    work()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def measure(threads: int, int8: bool) -> float:
    """Operations per second (a multiplication and an addition count as two) of a ``SIZE`` × ``SIZE`` matrix product.

    Uses the network's library and precision: fp32, or 8-bit integers with unsigned activations.
    """
    import openvino as ov
    from openvino import opset14 as ops

    random = np.random.default_rng(0)
    x = ops.parameter([SIZE, SIZE], np.float32)
    weight = random.uniform(-1, 1, (SIZE, SIZE)).astype(np.float32)
    left, right = x, ops.constant(weight)
    if int8:
        left = ops.fake_quantize(x, *map(np.float32, (0, 1, 0, 1)), 256)
        right = ops.fake_quantize(right, *map(np.float32, (-1, 1, -1, 1)), 255)
    product = ops.reduce_sum(ops.matmul(left, right, False, True), np.array([1]), keep_dims=False)
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    request = ov.Core().compile_model(ov.Model([product], [x], "product"), "CPU", config).create_infer_request()
    pixels = random.random((SIZE, SIZE), dtype=np.float32)
    return 2 * SIZE**3 / best(lambda: request.infer([pixels]), RUNS)


def operations_per_patch(checkpoint: Path) -> int:
    """Operations of the checkpoint's convolutions on one patch, counted as in :func:`measure`."""
    metadata, _ = read_metadata(checkpoint)
    total = 0
    for node in graph.build(load_arrays(checkpoint), metadata, 1).get_ordered_ops():
        if node.get_type_name() == "Convolution":
            _, _, height, width = node.get_output_shape(0)
            total += 2 * height * width * int(np.prod(node.get_input_shape(1)))
    return total
