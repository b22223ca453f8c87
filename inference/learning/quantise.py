"""Post-training quantisation to INT8, and the comparison of INT8 and bf16 with fp32."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from inference.engine import graph
from inference.engine.checkpoint import CheckpointError, load_arrays, read_metadata, sha256
from inference.engine.predictor import Job, Predictor
from inference.engine.quantised import Comparison, Form, Record, path_of, probe_logits
from inference.engine.runtime import OpenVinoRuntime, Runtime, TorchRuntime
from inference.engine.verdict import has_tissue
from inference.learning.metrics import equal_group_weight

Pixels = NDArray[np.uint8]
#: Ridge penalty per patch for refitting the head; on other patches the error is nearly constant from 0.001 to 0.1.
RIDGE = 0.03
#: Patches per batch; NNCF averages the extremes of an activation over the batches.
BATCH = 8


@dataclass(frozen=True)
class Labelled:
    """One slide of a comparison: pixels uint8 (H, W, 3), label 0/1, group."""

    rgb: Pixels
    label: int
    group: str


def quantise(checkpoint: Path, patches: Sequence[Pixels], ranges: int = 480) -> None:
    """Write ``X.int8.xml`` and ``X.int8.bin`` next to a checkpoint, using H&E patches uint8 (224, 224, 3).

    The first ``ranges`` patches determine the ranges of the activations (NNCF's *mixed* preset: symmetric weights with
    one scale per channel). The first convolution and the head stay in fp32: the first convolution is cheap and its
    input is raw pixels; the head is refitted on all patches to reproduce the logits of the fp32 network.
    """
    import nncf
    import openvino as ov
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    nncf.set_log_level(logging.WARNING)
    metadata, _ = read_metadata(checkpoint)
    model = graph.build(load_arrays(checkpoint), metadata, BATCH)
    batches = [np.stack(patches[at : at + BATCH]) for at in range(0, len(patches) - BATCH + 1, BATCH)]
    shown = batches[: max(1, ranges // BATCH)]
    quantised = nncf.quantize(
        model,
        nncf.Dataset(shown),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(shown),
        ignored_scope=nncf.IgnoredScope(names=[graph.STEM, graph.HEAD]),
        advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.DISABLE),
    )
    _refit_head(quantised, OpenVinoRuntime(checkpoint), batches)
    ov.save_model(quantised, path_of(checkpoint, "xml"), compress_to_fp16=False)


def _refit_head(quantised: Any, reference: OpenVinoRuntime, batches: Sequence[Pixels]) -> None:
    """Refit the head of a quantised graph in place to reproduce the logits of the reference.

    Rounding the weights causes similar errors on all patches of a slide, so they do not average out. A ridge regression
    of the logit error on the pooled 8-bit features removes its linear part.
    """
    import openvino as ov
    from openvino import opset14 as ops

    nodes = {node.get_friendly_name(): node for node in quantised.get_ordered_ops()}
    head, bias = nodes[graph.HEAD], nodes[graph.HEAD_BIAS]
    pooled = ops.reduce_mean(head.input_value(0), np.array([2, 3]), keep_dims=False)
    features = ov.Core().compile_model(
        ov.Model([pooled], quantised.get_parameters(), "features"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    x = np.concatenate([np.array(features([batch])[0]) for batch in batches]).astype(np.float64)
    wanted = np.concatenate(
        [reference.infer(part)[0] for batch in batches for part in np.split(batch, BATCH // reference.batch_size)]
    ).astype(np.float64)

    weight = head.input_value(1).get_node().data.astype(np.float64)[:, :, 0, 0]
    offset = bias.input_value(1).get_node().data.astype(np.float64).ravel()
    error = (wanted - (x @ weight.T + offset)) @ np.array([-1.0, 1.0])
    mean = x.mean(0)
    centred = x - mean
    gram = centred.T @ centred + RIDGE * len(x) * np.eye(x.shape[1])
    change = np.linalg.solve(gram, centred.T @ (error - error.mean()))
    halves = np.array([-0.5, 0.5])
    weight += halves[:, None] * change
    offset += halves * (error.mean() - mean @ change)
    new_weight = ops.constant(weight[:, :, None, None].astype(np.float32))
    new_offset = ops.constant(offset.reshape(1, -1, 1, 1).astype(np.float32))
    head.input(1).replace_source_output(new_weight.output(0))
    bias.input(1).replace_source_output(new_offset.output(0))


def compare(checkpoint: Path, slides: Iterable[Labelled], what: str, form: Form = "int8") -> Comparison:
    """Compare a form with fp32 on slides, with the engine's predictor. ``what`` describes the slides."""
    slides = list(slides)
    reference = Predictor(OpenVinoRuntime(checkpoint))
    candidate = Predictor(runtime_of(checkpoint, form))
    before, after, verdicts, logits = [], [], 0, []
    for expected, found in zip(_run(reference, slides), _run(candidate, slides), strict=True):
        before.append(expected.verdict.probability_malignant)
        after.append(found.verdict.probability_malignant)
        verdicts += expected.verdict.verdict != found.verdict.verdict
        # The mean of an activation map is the difference of the patch's logits.
        run = has_tissue(expected.tissue)
        shift = found.activation[run].astype(float) - expected.activation[run].astype(float)
        logits.append(np.abs(shift.mean(axis=(1, 2))))
    shifts = np.abs(np.array(after) - np.array(before))
    return Comparison(
        what=what,
        slides=len(slides),
        shift=float(shifts.max()),
        mean_shift=float(shifts.mean()),
        verdicts=int(verdicts),
        logit_shift=float(np.percentile(np.concatenate(logits), 99)),
        auc_shift=_auc(slides, after) - _auc(slides, before) if len({slide.label for slide in slides}) == 2 else None,
    )


def _run(predictor: Predictor, slides: Sequence[Labelled]) -> Iterable[Any]:
    for outcome in predictor.run(Job(number, partial(getattr, slide, "rgb")) for number, slide in enumerate(slides)):
        assert outcome.prediction is not None
        yield outcome.prediction


def _auc(slides: Sequence[Labelled], probabilities: Sequence[float]) -> float:
    label = np.array([slide.label for slide in slides], dtype=float)
    weight = equal_group_weight(label, np.array([slide.group for slide in slides]))
    return float(roc_auc_score(label, np.array(probabilities), sample_weight=weight))


def record(checkpoint: Path, comparisons: Iterable[Comparison], form: Form = "int8") -> Record:
    """The record of a form of a checkpoint; :meth:`Record.write` stores it."""
    import openvino as ov

    made = runtime_of(checkpoint, form)
    found = Record(
        checkpoint_sha256=read_metadata(checkpoint)[1],
        xml_sha256="",
        bin_sha256="",
        made_with=f"{made.name}, openvino {ov.__version__}, torch {version('torch')}",
        comparisons=tuple(comparisons),
        probe=probe_logits(made.infer, made.batch_size),
        form=form,
    )
    if form == "bf16":
        return found
    return replace(
        found,
        xml_sha256=sha256(path_of(checkpoint, "xml")),
        bin_sha256=sha256(path_of(checkpoint, "bin")),
        made_with=f"nncf {version('nncf')}, openvino {ov.__version__}",
    )


def runtime_of(checkpoint: Path, form: Form) -> Runtime:
    """A runtime for a form that has no record yet. For bf16 on processors without it, PyTorch emulates it."""
    if form == "int8":
        return OpenVinoRuntime(checkpoint, graph_file=path_of(checkpoint, "xml"))
    try:
        return OpenVinoRuntime(checkpoint, bf16=True)
    except CheckpointError:
        return TorchRuntime(checkpoint, bf16=True)
