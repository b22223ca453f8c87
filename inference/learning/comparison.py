"""Comparison of two model versions on the same images: paired differences with bootstrap intervals over groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.learning.crossval import Prediction
from inference.learning.metrics import equal_group_weight, per_patient, weighted_auc

MEAN = "mean of all tests"
#: Name, whether it uses laboratory-held-out predictions, data set, and unit: group-weighted images, or patients.
TESTS = (
    ("BreakHis, images, groups equal", False, "breakhis", "images"),
    ("BreakHis, patients", False, "breakhis", "patients"),
    ("UCSB, images", False, "ucsb", "images"),
    ("BreakHis, images, trained without BreakHis", True, "breakhis", "images"),
    ("UCSB, images, trained without UCSB", True, "ucsb", "images"),
)


@dataclass(frozen=True)
class Difference:
    """AUC of the earlier and the later version, and the bounds of the 95 % interval of the difference."""

    name: str
    images: int
    groups: int
    before: float
    after: float
    low: float
    high: float


@dataclass(frozen=True)
class _Pair:
    """Arrays of one test, for the images or patients that both versions predicted."""

    label: np.ndarray
    before: np.ndarray
    after: np.ndarray
    group: np.ndarray
    weight: np.ndarray

    def aucs(self, times: dict[str, float]) -> tuple[float, float]:
        weight = self.weight * np.array([times[group] for group in self.group])
        return weighted_auc(self.label, self.before, weight), weighted_auc(self.label, self.after, weight)


def _pair(before: Sequence[Prediction], after: Sequence[Prediction], dataset: str, level: str) -> _Pair:
    old = {one.name: one for one in before if one.dataset == dataset}
    both = [(old[one.name], one) for one in after if one.name in old]
    label = np.array([one.label for _, one in both], dtype=float)
    group = np.array([one.group for _, one in both])
    p, q = np.array([one.p for one, _ in both]), np.array([one.p for _, one in both])
    if level == "patients":
        _, p, _ = per_patient(label, p, group)
        label, q, group = per_patient(label, q, group)
        return _Pair(label, p, q, group, np.ones(len(label)))
    return _Pair(label, p, q, group, equal_group_weight(label, group))


def compare(
    before: tuple[Sequence[Prediction], Sequence[Prediction]],
    after: tuple[Sequence[Prediction], Sequence[Prediction]],
    replicates: int = 1000,
    seed: int = 0,
) -> list[Difference]:
    """Differences for all of TESTS and their mean. Each side is a pair of out-of-fold and laboratory-held-out
    predictions.

    Every bootstrap replicate draws groups with replacement, stratified by data set and labels; the draw is the same for
    both versions and all tests.
    """
    pairs = {name: _pair(before[left], after[left], dataset, level) for name, left, dataset, level in TESTS}
    kinds: dict[tuple[str, int], set[str]] = {}
    for (_, _, dataset, _), pair in zip(TESTS, pairs.values(), strict=True):
        for group in set(pair.group.tolist()):
            labels = set(pair.label[pair.group == group].tolist())
            kinds.setdefault((dataset, int(sum(labels)) + 2 * len(labels)), set()).add(group)
    members = [sorted(groups) for _, groups in sorted(kinds.items())]
    whole = {group: 1.0 for groups in members for group in groups}
    random = np.random.default_rng(seed)
    draws = []
    for _ in range(replicates):
        times = dict.fromkeys(whole, 0.0)
        for groups in members:
            for group in random.choice(groups, len(groups)).tolist():
                times[group] += 1
        aucs = np.array([pair.aucs(times) for pair in pairs.values()])
        draws.append(aucs[:, 1] - aucs[:, 0])
    drawn = np.array(draws)
    low, high = np.nanpercentile(drawn, 2.5, axis=0), np.nanpercentile(drawn, 97.5, axis=0)
    found = np.array([pair.aucs(whole) for pair in pairs.values()])
    rows = [
        Difference(name, len(pair.label), len(set(pair.group.tolist())), *map(float, (*found[i], low[i], high[i])))
        for i, (name, pair) in enumerate(pairs.items())
    ]
    mean = np.nanmean(drawn, axis=1)
    bounds = (float(np.nanpercentile(mean, 2.5)), float(np.nanpercentile(mean, 97.5)))
    return [*rows, Difference(MEAN, 0, len(whole), float(found[:, 0].mean()), float(found[:, 1].mean()), *bounds)]


def markdown(rows: Sequence[Difference], before: str, after: str) -> str:
    lines = [f"| AUC | n (groups) | {before} | {after} | difference (95 % interval) |", "|---|---|---|---|---|"]
    for row in rows:
        size = f"{row.images} ({row.groups})" if row.images else ""
        difference = f"{row.after - row.before:+.3f} ({row.low:+.3f} to {row.high:+.3f})"
        lines.append(f"| {row.name} | {size} | {row.before:.3f} | {row.after:.3f} | {difference} |")
    return "\n".join(lines)
