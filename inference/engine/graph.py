"""The network as an OpenVINO graph, built from a checkpoint's arrays without torch.

It has the layers of :mod:`network` (He et al., CVPR 2016; torchvision's names). Each BatchNorm is folded into the
convolution before it, and the graph normalises its input. tests/engine/test_runtime.py compares the two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset14 as ops

from .checkpoint import CheckpointError, Metadata
from .grid import PATCH

#: Layer, number of bottlenecks, and stride of the first one (ResNet-50).
LAYERS = ((1, 3, 1), (2, 4, 2), (3, 6, 2), (4, 3, 2))
BATCH_NORM_EPSILON = 1e-5  # torch's default, which torchvision keeps

#: Names of the nodes that are not quantised.
STEM, HEAD, HEAD_BIAS = "stem", "head", "head.bias"

Arrays = dict[str, NDArray[Any]]
Node = Any


def build(arrays: Arrays, metadata: Metadata, batch_size: int) -> ov.Model:
    """A graph from pixels uint8 (batch_size, 224, 224, 3) to float32 logits (batch_size, 2) and class activation maps
    (batch_size, 2, 7, 7).

    Raises CheckpointError (``foreign``) if an array is missing or has another shape.
    """
    try:
        return _build(arrays, metadata, batch_size)
    except (KeyError, ValueError, RuntimeError) as error:
        message = f"The checkpoint does not fit a two-class ResNet50 ({str(error).splitlines()[0]})."
        raise CheckpointError("foreign", message) from error


def _build(arrays: Arrays, metadata: Metadata, batch_size: int) -> ov.Model:
    pixels = ops.parameter([batch_size, PATCH, PATCH, 3], np.uint8, name="pixels")
    x = ops.transpose(ops.convert(pixels, np.float32), np.array([0, 3, 1, 2]))
    mean = np.array(metadata.mean, dtype=np.float32).reshape(1, 3, 1, 1) * 255
    std = np.array(metadata.std, dtype=np.float32).reshape(1, 3, 1, 1) * 255
    x = ops.divide(ops.subtract(x, ops.constant(mean)), ops.constant(std))
    stem = _convolution(x, arrays, "conv1", "bn1", stride=2, padding=3)
    stem.input_value(0).get_node().set_friendly_name(STEM)
    x = ops.relu(stem)
    x = _stem_pool(x, metadata.stem_pool)
    for layer, blocks, stride in LAYERS:
        for block in range(blocks):
            x = _bottleneck(x, arrays, f"layer{layer}.{block}", stride if block == 0 else 1, metadata.stride_in)
    weight = arrays["fc.weight"].astype(np.float32)[:, :, None, None]
    bias = arrays["fc.bias"].astype(np.float32).reshape(1, -1, 1, 1)
    head = _plain(x, weight, 1, 0)
    head.set_friendly_name(HEAD)
    cams = ops.add(head, ops.constant(bias))
    cams.set_friendly_name(HEAD_BIAS)
    logits = ops.reduce_mean(cams, np.array([2, 3]), keep_dims=False)
    return ov.Model([logits, cams], [pixels], "histopath")


def _plain(x: Node, weight: NDArray[np.float32], stride: int, padding: int) -> Node:
    edges = [padding, padding]
    return ops.convolution(x, ops.constant(weight), [stride, stride], edges, edges, [1, 1])


def _convolution(x: Node, arrays: Arrays, conv: str, norm: str, stride: int = 1, padding: int = 0) -> Node:
    """A convolution with the BatchNorm after it folded in; computed in float64 and rounded once."""

    def of(name: str) -> NDArray[np.float64]:
        return arrays[f"{norm}.{name}"].astype(np.float64)

    scale = of("weight") / np.sqrt(of("running_var") + BATCH_NORM_EPSILON)
    weight = arrays[f"{conv}.weight"].astype(np.float64) * scale[:, None, None, None]
    bias = of("bias") - of("running_mean") * scale
    folded = _plain(x, weight.astype(np.float32), stride, padding)
    return ops.add(folded, ops.constant(bias.astype(np.float32).reshape(1, -1, 1, 1)))


def _stem_pool(x: Node, variant: str) -> Node:
    """The max pool of the stem: ``padded`` is torchvision's, ``ceil`` that of the original release."""
    padding, rounding = ([1, 1], "floor") if variant == "padded" else ([0, 0], "ceil_torch")
    return ops.max_pool(x, [2, 2], [1, 1], padding, padding, [3, 3], rounding_type=rounding).output(0)


def _bottleneck(x: Node, arrays: Arrays, name: str, stride: int, stride_in: str) -> Node:
    if f"{name}.downsample.0.weight" in arrays:
        shortcut = _convolution(x, arrays, f"{name}.downsample.0", f"{name}.downsample.1", stride)
    else:
        shortcut = x
    if not arrays[f"{name}.bn3.weight"].any() and not arrays[f"{name}.bn3.bias"].any():
        # A residual branch that stayed closed in training adds exactly zero.
        return ops.relu(shortcut)
    strides = {"conv1": 1, "conv2": 1, stride_in: stride}
    y = ops.relu(_convolution(x, arrays, f"{name}.conv1", f"{name}.bn1", strides["conv1"]))
    y = ops.relu(_convolution(y, arrays, f"{name}.conv2", f"{name}.bn2", strides["conv2"], padding=1))
    y = _convolution(y, arrays, f"{name}.conv3", f"{name}.bn3")
    return ops.relu(ops.add(y, shortcut))
