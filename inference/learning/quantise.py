"""Post-training quantisation to INT8, and the comparison that decides whether it may be used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from inference.engine import graph
from inference.engine.checkpoint import load_arrays, read_metadata, sha256
from inference.engine.predictor import Job, Predictor
from inference.engine.quantised import Comparison, Record, path_of
from inference.engine.runtime import BATCH_SIZE, OpenVinoRuntime
from inference.learning.metrics import equal_group_weight

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Labelled:
    """One slide of a comparison: pixels uint8 (H, W, 3), label 0/1, group."""

    rgb: Pixels
    label: int
    group: str


def quantise(checkpoint: Path, patches: Sequence[Pixels]) -> None:
    """Write ``X.int8.xml`` and ``.bin`` beside a checkpoint, its ranges taken from H&E patches uint8 (224, 224, 3).

    Symmetric weights and activations per NNCF's *mixed* preset. All weights use half of their range: processors
    without VNNI saturate otherwise (NNCF, overflow fix), and all machines shall give the same figures.
    """
    import nncf
    import openvino as ov
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    metadata, _ = read_metadata(checkpoint)
    model = graph.build(load_arrays(checkpoint), metadata, BATCH_SIZE)
    batches = [np.stack(patches[at : at + BATCH_SIZE]) for at in range(0, len(patches) - BATCH_SIZE + 1, BATCH_SIZE)]
    quantised = nncf.quantize(
        model,
        nncf.Dataset(batches),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(batches),
        advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
    )
    ov.save_model(quantised, path_of(checkpoint, "xml"), compress_to_fp16=False)


def compare(checkpoint: Path, slides: Iterable[Labelled], what: str) -> Comparison:
    """INT8 against fp32 over slides, each read by the engine's own predictor."""
    slides = list(slides)
    reference = Predictor(OpenVinoRuntime(checkpoint))
    candidate = Predictor(OpenVinoRuntime(checkpoint, graph_file=path_of(checkpoint, "xml")))
    before, after, verdicts, logits = [], [], 0, []
    for expected, found in zip(_run(reference, slides), _run(candidate, slides), strict=True):
        before.append(expected.verdict.probability_malignant)
        after.append(found.verdict.probability_malignant)
        verdicts += expected.verdict.verdict != found.verdict.verdict
        # The mean of an activation map is the difference of the patch's logits.
        shift = found.activation.astype(float) - expected.activation.astype(float)
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


def record(checkpoint: Path, comparisons: Iterable[Comparison]) -> Record:
    """The record of what lies beside a checkpoint; to be written with :meth:`Record.write`."""
    import nncf
    import openvino as ov

    return Record(
        checkpoint_sha256=read_metadata(checkpoint)[1],
        xml_sha256=sha256(path_of(checkpoint, "xml")),
        bin_sha256=sha256(path_of(checkpoint, "bin")),
        made_with=f"nncf {nncf.__version__}, openvino {ov.__version__}",
        comparisons=tuple(comparisons),
    )
