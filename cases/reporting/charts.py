"""Template context for the slide page, computed from a patch table."""

from __future__ import annotations

from typing import Any

import numpy as np
from django.urls import reverse
from numpy.typing import ArrayLike

from cases.images import tiles
from cases.models import Slide
from inference.engine.grid import PATCH
from inference.engine.patchmap import colour_table
from inference.models import PatchTable

BINS = 20
#: Patches in each of the two lists.
LISTED = 6
#: Of the most suspicious patches, so many are outlined in the viewer.
MARKED = 3


def patches(table: PatchTable | None, slide: Slide) -> dict[str, Any]:
    """Context of the viewer, the histogram and the two patch lists; of the viewer only if there is no table. Patches
    without tissue are in neither the histogram nor the lists."""
    data: dict[str, Any] = {
        "width": slide.width,
        "height": slide.height,
        "view": reverse("cases:view", args=[slide.pk]),
        "patch": PATCH,
    }
    if tiles.is_large(slide):
        data["tiles"] = reverse("cases:tiles", args=[slide.pk])
    if table is None:
        return {"viewer": data}
    rows = table.rows()
    data |= {
        # Named, so that the page gets the maps of this analysis even if another has become current.
        "analysis": str(table.analysis_id),
        "activation": f"{reverse('cases:activation', args=[slide.pk])}?analysis={table.analysis_id}",
        # null where a patch has no tissue.
        "patches": [
            [row["x"], row["y"], None if row["malignant"] is None else round(row["malignant"], 6)] for row in rows
        ],
        "patch_url": reverse("cases:patch", args=[slide.pk, 0]).removesuffix("0.png"),
        "colours": colour_table()[::4].tolist(),
    }
    with_tissue = [row for row in rows if row["malignant"] is not None]
    ordered = sorted(with_tissue, key=lambda row: -row["malignant"])
    listed = min(LISTED, (len(ordered) + 1) // 2)
    data["marked"] = [row["index"] for row in ordered[:MARKED]]
    return {
        "viewer": data,
        "histogram": histogram(table),
        "suspicious": ordered[:listed],
        "marked": MARKED,
        "harmless": ordered[::-1][: min(listed, len(ordered) - listed)],
        "patch_count": len(ordered),
        "empty_count": len(rows) - len(ordered),
    }


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
