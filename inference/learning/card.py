"""The model card and its pictures, written from the shipped artefacts alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inference.engine import quantised
from inference.engine.checkpoint import Metadata
from inference.engine.quantised import Record
from inference.learning import curves
from inference.learning.crossval import Prediction
from inference.learning.evaluation import Row, by_group, decisions, failures, markdown, rows
from inference.learning.metrics import equal_group_weight

LEFT_OUT = "left out"
TARGETS = (
    ("BreakHis, image AUC, groups equal", "breakhis", "image, groups equal", "auc", 0.88, ">="),
    ("BreakHis, patient AUC", "breakhis", "patient", "auc", 0.92, ">="),
    ("BreakHis, sensitivity at p = 0.5, groups equal", "breakhis", "image, groups equal", "sensitivity", 0.90, ">="),
    ("BreakHis, specificity at p = 0.5, groups equal", "breakhis", "image, groups equal", "specificity", 0.70, ">="),
    ("UCSB, image AUC", "ucsb", "image", "auc", 0.98, ">="),
    ("BreakHis by a model trained without it, image AUC", "breakhis", LEFT_OUT, "auc", 0.75, ">="),
    ("UCSB by a model trained without it, image AUC", "ucsb", LEFT_OUT, "auc", 0.75, ">="),
    ("BreakHis, expected calibration error, groups equal", "breakhis", "image, groups equal", "ece", 0.10, "<="),
    ("Tiles, expected calibration error, groups equal", "breakhis-tile", "image, groups equal", "ece", 0.10, "<="),
    ("UCSB, expected calibration error, groups equal", "ucsb", "image, groups equal", "ece", 0.10, "<="),
)


UNWEIGHED = """
These figures are of the plain mean over all patches, with which this version was made and calibrated. The product
weighs patches by their share of tissue and leaves out those without, so its probabilities differ from the record where
tissue is uneven. On 25 UCSB fields the probability moved by 0.026 in the mean (0.020 upwards) and by 0.074 at most."""


def write_pictures(predictions: Sequence[Prediction], folder: Path) -> None:
    """ROC and precision-recall curves, reliability diagram and the price of deciding, as ``figures.png``."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from sklearn.metrics import precision_recall_curve, roc_curve

    figure, ((roc, recall), (reliability, risk)) = plt.subplots(2, 2, figsize=(9, 8), layout="constrained")
    for dataset in ("breakhis", "ucsb"):
        own = [one for one in predictions if one.dataset == dataset]
        label, p = np.array([one.label for one in own], dtype=float), np.array([one.p for one in own])
        weight = equal_group_weight(label, np.array([one.group for one in own]))
        false, true, _ = roc_curve(label, p, sample_weight=weight)
        roc.plot(false, true, label=dataset)
        precision, sensitivity, _ = precision_recall_curve(label, p, sample_weight=weight)
        recall.plot(sensitivity, precision, label=dataset)
        bins = curves.reliability(label, p, weight)
        reliability.plot([one["mean"] for one in bins], [one["share"] for one in bins], "o-", label=dataset)
        sure = np.argsort(-np.abs(p - 0.5))
        wrong = np.cumsum((weight * ((p >= 0.5) != (label == 1)))[sure])
        risk.plot(np.cumsum(weight[sure]) / weight.sum(), wrong / np.cumsum(weight[sure]), label=dataset)
    reliability.plot([0, 1], [0, 1], ":", color="grey")
    for axes, title, x, y in (
        (roc, "ROC", "1 - specificity", "sensitivity"),
        (recall, "Precision and recall", "recall", "precision"),
        (reliability, "Reliability", "calibrated probability", "frequency of malignant"),
        (risk, "Error among the surest", "share of images decided", "error"),
    ):
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.legend()
    figure.savefig(folder / "figures.png", dpi=80, metadata={"Software": None})
    plt.close(figure)


def write_learning_curve(curve: Sequence[dict[str, float]], folder: Path) -> None:
    """AUC against the number of patients learnt from, as ``learning.png``."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    groups = [point["groups"] for point in curve]
    axes.plot(groups, [point["known"] for point in curve], "o--", label="images learnt from")
    axes.plot(groups, [point["held"] for point in curve], "o-", label="patients held out")
    axes.set(
        title="Learning curve, BreakHis, groups equal", xlabel="groups learnt from", ylabel="AUC", ylim=(0.5, 1.01)
    )
    axes.legend(loc="lower right")
    figure.savefig(folder / "learning.png", dpi=80, metadata={"Software": None})
    plt.close(figure)


def learning_markdown(curve: Sequence[dict[str, float]]) -> str:
    lines = [
        "| share of the groups | groups learnt from | AUC, images learnt from | AUC, patients held out |",
        "|---|---|---|---|",
    ]
    lines += [f"| {c['share']:.0%} | {c['groups']:.0f} | {c['known']:.3f} | {c['held']:.3f} |" for c in curve]
    return "\n".join(lines)


def card(
    predictions: Sequence[Prediction],
    metadata: Metadata,
    sha256: str,
    gate: str,
    forms: Sequence[Record],
    curve: Sequence[dict[str, float]],
    replicates: int = 1000,
    more: str = "",
    left_out: Sequence[Row] = (),
) -> str:
    """The card's text in Markdown; ``gate`` is the measured table of the domain gate, ``forms`` how INT8 and bf16
    compare, ``curve`` the points of ``learning.json``, ``more`` further tables of figures, ``left_out`` the rows of
    ``evaluation.left_out_rows``.
    """
    table = rows(predictions, replicates)
    found = {(row.dataset, row.level): row for row in table}
    found |= {(row.dataset, LEFT_OUT): row for row in left_out if row.level != "patient"}
    targets = []
    for title, dataset, level, name, limit, sign in TARGETS:
        row = found.get((dataset, level))
        if row is None:
            targets.append(f"| {title} | {sign} {limit} | not measured | |")
            continue
        value, (low, high) = row.values[name], row.bounds[name]
        met = value >= limit if sign == ">=" else value <= limit
        targets.append(
            f"| {title} | {sign} {limit} | {value:.3f} ({low:.2f}–{high:.2f}) | {'yes' if met else '**no**'} |"
        )
    confusion = []
    for dataset in ("breakhis", "breakhis-tile", "ucsb"):
        own = [one for one in predictions if one.dataset == dataset]
        cells = [sum(o.label == a and (o.p >= 0.5) == b for o in own) for a in (0, 1) for b in (False, True)]
        confusion.append(f"| {dataset} | " + " | ".join(map(str, cells)) + " |")
    decided = [
        f"| {d.dataset} | {d.decided:.2f} | {d.error:.3f} | {d.benign_error:.3f} | {d.malignant_error:.3f} |"
        for d in decisions(predictions)
    ]
    worst = [
        f"| `{o.name}` | {o.group} | {'malignant' if o.label else 'benign'} | {o.p:.2f} |"
        for o in failures(predictions)
    ]
    groups = [f"| {d} | {g} | {c} | {n} | {p:.2f} |" for d, g, c, n, p in by_group(predictions)[:20]]
    training = metadata.training
    weighs = training["recipe"].get("tissue", False)
    return TEMPLATE.format(
        name=metadata.name, version=metadata.version, sha256=sha256, date=training.get("date"),
        minutes=training.get("minutes"), data=", ".join(f"{n} {d}" for d, n in training["data"].items()),
        groups=len(training["groups"]), strength=training.get("head_strength"),
        auxiliary=training.get("auxiliary_patches"),
        cut_low=metadata.cut_low, cut_high=metadata.cut_high, calibration=metadata.calibration,
        share=metadata.metrics["decided_share"], error=metadata.metrics["decided_error"],
        targets="\n".join(targets), table=markdown(table), confusion="\n".join(confusion),
        decided="\n".join(decided), worst="\n".join(worst), by_group="\n".join(groups), gate=gate,
        runtimes=runtimes(forms), learning=learning_markdown(curve), more=more,
        weighing=", weighted by their share of tissue" if weighs else "", unweighed="" if weighs else UNWEIGHED,
        trunk=trunk(training), notice=NOTICE if "curve" in training.get("trunk", {}) else "",
    )  # fmt: skip


BYPASSED = """\
**Layers**: layers 1 to 3 are frozen. Layer 4 passes layer 3 on (its residual branches are closed), so the network
   is a plain ResNet-50 whose pooled features are those of layer 3."""
FEATURES = {"layer3": "the first half", "layer4": "the second half", "both": "both halves"}
NOTICE = """\
Pre-training data, CC0 or CC BY as far as known: PatchCamelyon (Veeling et al., MICCAI 2018, from Camelyon16),
LC25000 (Borkowski et al., 2019), NuInsSeg (Mahbod et al., Sci. Data 2024), colorectal tissue (Kather et al., PLoS
Medicine 2019), oral squamous-cell carcinoma (Rahman et al., Data in Brief 2020), osteosarcoma (Leavey et al., TCIA
2019); and IDC patches (Cruz-Roa et al., SPIE 2014; Janowczyk & Madabhushi, JPI 2016).
"""


def trunk(training: dict[str, Any]) -> str:
    """How the layers below the head were made, from the provenance in the checkpoint."""
    found = training.get("trunk", {})
    if "curve" not in found:
        return BYPASSED
    last, size = found["curve"][-1], found["recipe"]["size"]
    sets = ", ".join(f"{count:,} {name}" for name, count in found["patches"].items())
    return (
        "**Pre-training** (`manage.py pretrain`): layers 2 to 4 were trained on H&E patches of other organs and IDC\n"
        f"   patches ({sets}; one group in ten held out) for\n"
        f"   {last['minutes']:.0f} minutes: {last['images']:,} crops of {size} pixels. Each data set has a classifier\n"
        "   of its own, and all share one for tumour against other tissue. No BreakHis, UCSB or demo image\n"
        "   takes part. The first 1,024 outputs of layer 4 are those of layer 3, the others were learned; the head\n"
        f"   uses {FEATURES[training['recipe']['features']]}."
    )


def runtimes(records: Sequence[Record]) -> str:
    if not records:
        return "This version has no INT8 form and no bf16 record; all machines use fp32."
    parts = []
    for record in records:
        instructions = "VNNI" if record.form == "int8" else "AMX"
        use = f"is used where the processor has {instructions} instructions" if record.passed else "is **not** used"
        lines = [f"- {one.what}: {quantised.describe(one)}" for one in record.comparisons]
        parts.append("\n".join([f"The {record.form} form ({record.made_with}) {use}.", "", *lines]))
    return "\n\n".join(parts)


TEMPLATE = (Path(__file__).parent / "card_template.md").read_text(encoding="utf-8")
