"""Charts of the Statistics page and of an image's patches: coordinates for inline SVG in a box of fixed size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cases.reporting.agreement import Statistics
from inference.models import PatchTable, Verdict

#: Bars of the histogram of patch probabilities.
BINS = 20

#: Size of the box and its margins, which hold the axis labels, in SVG units.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 220, 52, 12, 12, 38
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
#: Fraction of a bar's width below which a part has no room for its number.
ROOM = 0.07


def across(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def up(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


@dataclass(frozen=True)
class Point:
    """A disc; its area grows with the number of cases."""

    x: float
    y: float
    radius: float
    text: str


def _radius(n: int, most: int) -> float:
    return round(4 + 6 * (n / most) ** 0.5, 1)


def axes() -> dict[str, Any]:
    """The box and the ticks of both axes."""
    return {
        "box": {"width": WIDTH, "height": HEIGHT, "left": across(0), "right": across(1), "top": up(1), "foot": up(0)},
        "ticks": [{"share": share, "x": across(share), "y": up(share)} for share in TICKS],
    }


def line(points: Sequence[Sequence[float]]) -> str:
    """Points of a ``polyline`` from pairs of shares, 0 to 1."""
    return " ".join(f"{across(x)},{up(y)}" for x, y in points)


def discs(bins: Sequence[dict[str, float]]) -> list[Point]:
    """Discs of a reliability diagram from ``mean``, ``share`` and ``images``."""
    most = max((int(one["images"]) for one in bins), default=1)
    return [
        Point(
            across(one["mean"]),
            up(one["share"]),
            _radius(int(one["images"]), most),
            f"Mean probability {one['mean']:.0%}: {one['share']:.0%} malignant, {one['images']} images",
        )
        for one in bins
    ]


def statistics(found: Statistics) -> dict[str, Any]:
    """Context of ``parts/charts``: trend, calibration, readings by result."""
    return {
        **axes(),
        "trend": trend(found),
        "calibration": calibration(found),
        "rows": rows(found),
    }


def trend(found: Statistics) -> dict[str, Any]:
    """Agreement by month, oldest on the left."""
    months = [(name, group.share or 0.0, group.n) for name, group in found.trend]
    most = max((n for _, _, n in months), default=1)
    step = 1 / max(len(months) - 1, 1)
    points = [
        Point(
            across(0.5 if len(months) == 1 else 0.03 + 0.94 * i * step),
            up(share),
            _radius(n, most),
            f"{name}: {share:.0%} agreement, {n} case{'' if n == 1 else 's'}",
        )
        for i, (name, share, n) in enumerate(months)
    ]
    return {
        "points": points,
        "line": " ".join(f"{point.x},{point.y}" for point in points),
        "first": months[0][0] if months else "",
        "last": months[-1][0] if len(months) > 1 else "",
        "words": "; ".join(point.text for point in points),
    }


def calibration(found: Statistics) -> dict[str, Any]:
    """Share of cases that people read as malignant, by model probability; on the diagonal if the model is well
    calibrated."""
    bins = [(group.mean, group.share, group.n) for group in found.bins if group.mean is not None]
    most = max((n for _, _, n in bins), default=1)
    points = [
        Point(
            across(mean),
            up(share or 0.0),
            _radius(n, most),
            f"Mean probability {mean:.0%}: {share or 0.0:.0%} of {n} case{'' if n == 1 else 's'} read as malignant",
        )
        for mean, share, n in bins
    ]
    return {"points": points, "words": "; ".join(point.text for point in points)}


def rows(found: Statistics) -> list[dict[str, Any]]:
    """One bar per reading, divided by model result; readings and results without cases are left out."""
    drawn = []
    for _, label, cells in found.confusion:
        total = sum(cells)
        if not total:
            continue
        parts, start = [], 0.0
        for verdict, count in zip(Verdict, cells, strict=True):
            if count:
                share = count / total
                part = {"verdict": verdict.value, "label": verdict.label, "count": count, "x": start, "width": share}
                parts.append({**part, "middle": start + share / 2, "shown": share >= ROOM})
                start += share
        drawn.append({"label": label, "total": total, "parts": parts})
    return drawn


def histogram(table: PatchTable) -> dict[str, Any]:
    """Bars of the probabilities of the patches with tissue."""
    malignant = table.malignant
    return bars(malignant[~np.isnan(malignant)])


def bars(probabilities: ArrayLike) -> dict[str, Any]:
    """Bars of a histogram from 0 to 1; positions and sizes are fractions of the chart's width and height."""
    counts, edges = np.histogram(probabilities, bins=BINS, range=(0.0, 1.0))
    top = int(counts.max(initial=1)) or 1
    return {
        "top": top,
        "bars": [
            {
                "x": float(edges[i]),
                "width": 1 / BINS,
                "y": 1 - count / top,
                "height": count / top,
                "count": int(count),
                "low": float(edges[i]),
                "high": float(edges[i + 1]),
                "leans": "malignant" if edges[i] >= 0.5 else "benign",
            }
            for i, count in enumerate(counts)
        ],
    }
