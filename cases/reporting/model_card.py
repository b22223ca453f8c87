"""The model card of a model version, as labelled lines for a page or a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.utils.text import capfirst

from cases.reporting import charts as svg
from inference.engine import quantised
from inference.models import ModelVersion

Line = tuple[str, str]
#: Labels of metadata names that can't be derived from the names.
SPELT = {
    "auc": "AUC", "ece": "expected calibration error", "f1": "F1", "brier": "Brier score",
    "decided_share": "share of images with a definite result", "decided_error": "error rate, definite results",
    "benign_wrong": "error rate, benign results", "malignant_wrong": "error rate, malignant results",
    "breakhis": "BreakHis", "breakhis-tile": "BreakHis tiles", "ucsb": "UCSB",
    "head_strength": "inverse regularisation of the head", "minutes": "training time, minutes",
    "auxiliary_patches": "additional IDC patches",
}  # fmt: skip
#: Figures of a data set, and what a page calls them.
COLUMNS = [
    ("auc", "AUC"), ("sensitivity", "Sensitivity"), ("specificity", "Specificity"),
    ("brier", "Brier score"), ("ece", "Calibration error"),
]  # fmt: skip


def lines(model: ModelVersion) -> dict[str, list[Line]]:
    """``metrics`` and ``training`` of the checkpoint's metadata, flattened to label and text, and ``runtimes``."""
    metadata = _metadata(model)
    own = {part: list(_flat(metadata.get(part) or {})) for part in ("metrics", "training")}
    return own | {"runtimes": runtimes(model)}


#: Of ``training``, what a page shows folded.
RECIPE = ("recipe", "head_strength", "minutes")


def training(model: ModelVersion) -> dict[str, list[Line]]:
    """``metadata.training`` as lines: on what the model was trained, and the recipe."""
    found = _metadata(model).get("training") or {}
    data = {name: value for name, value in found.items() if name not in RECIPE}
    return {"data": list(_flat(data)), "recipe": list(_flat({k: found[k] for k in RECIPE if k in found}))}


def held_out(model: ModelVersion) -> list[dict[str, Any]]:
    """The data sets of ``metrics.out_of_fold``, each with ``name`` and the figures of :data:`COLUMNS` as text."""
    found = (_metadata(model).get("metrics") or {}).get("out_of_fold") or {}
    return [
        {"name": _spelt(name), "values": [_text(values[key]) if key in values else "–" for key, _ in COLUMNS]}
        for name, values in found.items()
        if isinstance(values, dict)
    ]


def curves(model: ModelVersion) -> dict[str, Any]:
    """ROC and reliability as coordinates of SVG, results by subtype and magnification, from the file beside the
    checkpoint; empty if there is none for this checkpoint."""
    try:
        found = json.loads(Path(model.path).with_suffix(".figures.json").read_text(encoding="utf-8"))
        if found["checkpoint_sha256"] != model.sha256:
            return {}
        return {**svg.axes(), **{name: found[name] for name in ("subtypes", "magnifications")}, "sets": [
            {**one, "roc": svg.line(one["roc"]), "points": svg.discs(one["reliability"])} for one in found["curves"]
        ]}  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        # The file is an extra: the page stands without it.
        return {}


def runtimes(model: ModelVersion) -> list[Line]:
    """Comparison of the model's INT8 and bf16 versions with fp32, if it has them."""
    found: list[Line] = []
    for form, needs in zip(quantised.FORMS, ("VNNI", "AMX"), strict=True):
        record = quantised.read_record(Path(model.path), form)
        if record is None or record.checkpoint_sha256 != model.sha256:
            continue
        use = f"used on processors with {needs}" if record.passed else "not used: its results differ too much"
        found.append((f"{'INT8' if form == 'int8' else form} version", use))
        found += [(one.what.capitalize(), quantised.describe(one)) for one in record.comparisons]
    return found


def _metadata(model: ModelVersion) -> dict[str, Any]:
    """The checkpoint's metadata, which lists of versions leave in the database."""
    return ModelVersion.objects.values_list("metadata", flat=True).get(pk=model.pk) or {}


def _flat(values: dict[str, Any], prefix: str = "") -> list[Line]:
    found: list[Line] = []
    for name, value in values.items():
        label = f"{prefix}, {_spelt(name)}" if prefix else capfirst(_spelt(name))
        if isinstance(value, dict) and any(isinstance(inner, dict) for inner in value.values()):
            found += _flat(value, label)
        elif isinstance(value, dict):
            found.append((label, ", ".join(f"{_spelt(key)} {_text(inner)}" for key, inner in value.items())))
        else:
            found.append((label, _text(value)))
    return found


def _spelt(name: str) -> str:
    return SPELT.get(name, name.replace("_", " "))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return str(len(value)) if len(value) > 8 else ", ".join(map(str, value))
    return str(value)
