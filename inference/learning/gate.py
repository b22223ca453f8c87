"""Fits the domain check to real fields, and evaluates it. Images that are not H&E are used only for evaluation."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from inference.engine.domain import STATISTICS, distance, judge_statistics, reduced, statistics
from inference.learning.augment import Strength, stain_jitter
from inference.learning.crossval import laboratory
from inference.learning.dataset import Sample, read_rgb

#: Stain variation between laboratories: real fields are restained by this much before the fit.
RESTAINED = Strength(stain=0.3, offset=0.02, channel=0.08)
VARIANTS = ("restained", "restained again", "magnified", "reduced", "out of focus", "dark")
#: Variation of scanners and objectives: fields are magnified or reduced by up to this factor (log-uniform).
ZOOM = 2.0
SHRINKAGE = 0.1
QUANTILE = 0.99
SLACK = 1.10
#: Weight of H&E fields of other organs in the fit, as a share of the weight of the breast fields.
OTHERS = 0.5
OTHERS_A_SET = 120
SMALLEST = 224


def variants(rgb: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
    """One modified copy of a field uint8 (H, W, 3) for each of VARIANTS."""
    zoom = np.exp(random.uniform(0, np.log(ZOOM), 2))
    restained = [stain_jitter(rgb, random, RESTAINED) for _ in range(4)]
    return [
        restained[0],
        restained[1],
        magnified(restained[2], random, float(zoom[0])),
        smaller(restained[3], float(zoom[1])),
        blurred(rgb, random.uniform(0.5, 1.5)),
        darkened(rgb, random.uniform(0.6, 0.9)),
    ]


def real_statistics(samples: Sequence[Sample], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of the fields (N, 25), and of their modified copies (N, len(VARIANTS), 25)."""
    plain, varied = [], []
    for index, sample in enumerate(samples):
        random = np.random.default_rng((seed, index))
        rgb = reduced(read_rgb(sample.path))
        plain.append(statistics(rgb))
        varied.append([statistics(copy) for copy in variants(rgb, random)])
    return np.array(plain), np.array(varied)


def other_statistics(root: Path, seed: int = 0) -> np.ndarray:
    """Statistics (M, 25) of H&E fields of other organs in ``root/pretrain``, at most OTHERS_A_SET per data set.

    Patches smaller than SMALLEST pixels are left out, because their texture differs. Empty if there is no such folder.
    """
    if not (root / "pretrain" / "index.csv").exists():
        return np.empty((0, len(STATISTICS)))
    random = np.random.default_rng(seed)
    paths: dict[str, list[Path]] = {}
    with open(root / "pretrain" / "index.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if min(int(row["width"]), int(row["height"])) >= SMALLEST:
                paths.setdefault(row["dataset"], []).append(root / row["path"])
    chosen = [own[i] for _, own in sorted(paths.items()) for i in random.permutation(len(own))[:OTHERS_A_SET]]
    return np.array([statistics(reduced(read_rgb(path))) for path in chosen])


def magnified(rgb: np.ndarray, random: np.random.Generator, factor: float) -> np.ndarray:
    """A random part of a field, enlarged to the size of the field."""
    height, width = (round(side / factor) for side in rgb.shape[:2])
    y, x = int(random.integers(rgb.shape[0] - height + 1)), int(random.integers(rgb.shape[1] - width + 1))
    part = Image.fromarray(np.ascontiguousarray(rgb[y : y + height, x : x + width]))
    return np.asarray(part.resize((rgb.shape[1], rgb.shape[0]), Image.Resampling.BICUBIC))


def smaller(rgb: np.ndarray, factor: float) -> np.ndarray:
    size = (round(rgb.shape[1] / factor), round(rgb.shape[0] / factor))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX))


def blurred(rgb: np.ndarray, radius: float) -> np.ndarray:
    """Out of focus: Gaussian blur with a standard deviation of ``radius`` pixels."""
    return np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(radius)))


def darkened(rgb: np.ndarray, factor: float) -> np.ndarray:
    """Under-exposed: pixel values times ``factor``."""
    return (rgb * factor).astype(np.uint8)


def fit_gate(
    plain: np.ndarray, varied: np.ndarray, weight: np.ndarray, others: np.ndarray | None = None
) -> dict[str, Any]:
    """Parameters of ``engine.domain.check`` from the statistics of real fields, with their weights (N,).

    ``others`` are statistics of H&E fields of other organs, which widen the accepted range of stains and textures. The
    limits of the rules lie beyond the most extreme real field by a margin; the distance limit is a quantile of the real
    fields.
    """
    known = np.concatenate([plain, varied.reshape(-1, plain.shape[1])])
    weights = np.concatenate([weight, np.repeat(weight, varied.shape[1])])
    if others is not None and len(others):
        known = np.concatenate([known, others])
        weights = np.concatenate([weights, np.full(len(others), OTHERS * weights.sum() / len(others))])
    mean = np.average(known, axis=0, weights=weights)
    scale = np.sqrt(np.average((known - mean) ** 2, axis=0, weights=weights)) + 1e-3
    white = (known - mean) / scale
    covariance = np.cov(white.T, aweights=weights)
    precision = np.linalg.inv((1 - SHRINKAGE) * covariance + SHRINKAGE * np.eye(len(mean)))
    column = {name: known[:, i] for i, name in enumerate(STATISTICS)}
    real = {name: plain[:, i] for i, name in enumerate(STATISTICS)}
    gate: dict[str, Any] = {
        "mean": np.round(mean, 5).tolist(),
        "scale": np.round(scale, 5).tolist(),
        "precision": np.round(precision, 4).tolist(),
        "stained": round(0.6 * float(column["stained"].min()), 4),
        "uniform": round(float((1 + column["dominant"].max()) / 2), 4),
        "plain": round(0.7 * float(column["entropy"].min()), 4),
        "dark_share": round(float((1 + column["dark"].max()) / 2), 4),
        "magenta": round(0.8 * float(np.quantile(column["magenta"], 0.005)), 4),
        "trade": round(float(np.quantile(column["trade"], 0.995)) + 0.1, 4),
        "blurred": round(float(np.quantile(real["middle"], 0.99)) + 0.05, 4),
        "dark": round(1.2 * float(np.quantile(real["exposure"], 0.995)), 4),
    }
    gate["limit"] = round(SLACK * float(np.quantile([distance(values, gate) for values in known], QUANTILE)), 4)
    return gate


def measure(
    samples: Sequence[Sample],
    folds: dict[str, int],
    plain: np.ndarray,
    varied: np.ndarray,
    weight: np.ndarray,
    others: np.ndarray | None = None,
    each: int = 24,
) -> list[dict[str, Any]]:
    """Rejected real fields, by checks fitted without the field's group, and rejected images that are not H&E.

    Then the same for checks fitted without a whole laboratory. Images that are not H&E but modify real tissue use
    fields of fold 0, and the check fitted without that fold judges all of them. Returns rows with ``kind``, ``images``,
    ``flagged`` (number rejected) and ``codes``.
    """
    from inference.learning.ood_images import KINDS, ood_images

    fold_of = np.array([folds[sample.group] for sample in samples])
    lab_of = np.array([laboratory(sample) for sample in samples])

    def without(left_out: np.ndarray) -> dict[str, Any]:
        return fit_gate(plain[~left_out], varied[~left_out], weight[~left_out], others)

    gates = {k: without(fold_of == k) for k in sorted(set(fold_of.tolist()))}
    table = []
    for dataset in sorted({sample.dataset for sample in samples}):
        own = [i for i, sample in enumerate(samples) if sample.dataset == dataset]
        table.append(_row(f"real: {dataset}", [judge_statistics(plain[i], gates[fold_of[i]]).code for i in own]))
    for column, name in enumerate(VARIANTS):
        codes = [judge_statistics(varied[i, column], gates[fold_of[i]]).code for i in range(len(samples))]
        table.append(_row(f"real, {name}", codes))
    fields = [
        read_rgb(s.path) for s, fold in zip(samples, fold_of, strict=True) if fold == 0 and s.dataset == "breakhis"
    ]
    fields = [field for field in fields if field.shape[:2] == (460, 700)][::3]
    ood = {kind: [statistics(reduced(one)) for one in ood_images(kind, fields, each)] for kind in KINDS}
    for kind, found in ood.items():
        table.append(_row(kind, [judge_statistics(values, gates[0]).code for values in found]))
    for name in sorted(set(lab_of.tolist())) if len(set(lab_of.tolist())) > 1 else []:
        gate = without(lab_of == name)
        codes = [judge_statistics(values, gate).code for values in plain[lab_of == name]]
        table.append(_row(f"left out: {name}", codes))
        codes = [judge_statistics(values, gate).code for found in ood.values() for values in found]
        table.append(_row(f"left out: {name}, all foreign images", codes))
    return table


def _row(kind: str, codes: Sequence[str | None]) -> dict[str, Any]:
    given = sorted({code for code in codes if code})
    return {"kind": kind, "images": len(codes), "flagged": sum(code is not None for code in codes),
            "codes": {code: codes.count(code) for code in given}}  # fmt: skip


def gate_markdown(table: Sequence[dict[str, Any]]) -> str:
    """The rows of :func:`measure` as a Markdown table, with totals for real and other images."""
    lines = ["| images | number | called out of domain | reasons |", "|---|---|---|---|"]
    real = [row for row in table if row["kind"].startswith("real:")]
    foreign = [row for row in table if not row["kind"].startswith(("real", "left out"))]
    for name, part in (("**all real fields**", real), ("**all foreign images**", foreign)):
        lines.append(_line({"kind": name, "images": sum(r["images"] for r in part),
                            "flagged": sum(r["flagged"] for r in part), "codes": {}}))  # fmt: skip
    return "\n".join(lines[:2] + [_line(row) for row in table] + lines[2:])


def _line(row: dict[str, Any]) -> str:
    reasons = ", ".join(f"{code} {count}" for code, count in row["codes"].items())
    return f"| {row['kind']} | {row['images']} | {row['flagged'] / row['images']:.1%} | {reasons} |"
