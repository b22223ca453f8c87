"""Output of a result as text, JSON or CSV, and a progress bar."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from inference.tables import write_csv

from .arguments import readable

NAMES = {
    "benign": "Benign",
    "malignant": "Malignant",
    "indeterminate": "Indeterminate",
    "out_of_domain": "Not H&E breast tissue",
}
COLUMNS = [
    "filename", "prediction", "confidence", "benign", "malignant", "num_patches", "benign_patches",
    "malignant_patches", "tissue_patches", "empty_patches", "warnings", "error",
]  # fmt: skip
DISCLAIMER = "For research and education only. Not a medical device, not for diagnosis."
BAR = 30
#: Files left out that are named.
NAMED = 20


def write(result: dict[str, Any], form: str, out: TextIO) -> None:
    {"json": _json, "csv": _csv, "text": _text}[form](result, out)


def left_out(paths: Sequence[Path], err: TextIO) -> None:
    """Name the files of a folder that are no images."""
    if paths:
        names = ", ".join(readable(path.name) for path in paths[:NAMED])
        more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
        print(f"Left out, not images ({len(paths)}): {names}{more}", file=err)


def errors_of(result: dict[str, Any]) -> list[dict[str, str]]:
    return list(result.get("errors", []))


def _images(result: dict[str, Any]) -> list[dict[str, Any]]:
    if "individual_predictions" in result:
        return list(result["individual_predictions"])
    return [result] if "prediction" in result else []


def _json(result: dict[str, Any], out: TextIO) -> None:
    json.dump(result, out, indent=2, ensure_ascii=False)
    out.write("\n")


def _csv(result: dict[str, Any], out: TextIO) -> None:
    images = [
        {**image, **image["probabilities"], **image["patch_breakdown"], "warnings": "; ".join(image["warnings"])}
        for image in _images(result)
    ]
    errors = [{"filename": error["filename"], "error": error["reason"]} for error in errors_of(result)]
    rows = ([line.get(name) for name in COLUMNS] for line in (*images, *errors))
    # Without carriage returns, which many shell tools do not expect.
    write_csv(out, COLUMNS, rows, line_end="\n")


def _text(result: dict[str, Any], out: TextIO) -> None:
    if "aggregated_diagnosis" in result:
        _folder(result, out)
    elif "prediction" in result:
        _single(result, out)
    if _images(result):
        model = result["model"]
        kind = "calibrated" if model["calibrated"] else "uncalibrated"
        print(f"Model:        {model['name']} {model['version']} ({kind}), {model['runtime']}", file=out)
        print(f"              SHA-256 {model['sha256']}", file=out)
        print(f"\n{DISCLAIMER}", file=out)


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.1%})" if whole else str(part)


def _result(found: dict[str, Any], out: TextIO) -> None:
    thresholds = found["cut_points"]
    print(f"Result:       {NAMES[found['prediction']]}", file=out)
    print(f"Confidence:   {found['confidence']:.2%}", file=out)
    for name in ("benign", "malignant"):
        print(f"  {name:<11} {found['probabilities'][name]:.4f}", file=out)
    print(f"Thresholds:   benign < {thresholds['low']:.3f}, malignant > {thresholds['high']:.3f}", file=out)


def _single(image: dict[str, Any], out: TextIO) -> None:
    print(f"Image:        {image['filename']}", file=out)
    _result(image, out)
    total, parts, empty = image["num_patches"], image["patch_breakdown"], image["empty_patches"]
    print(f"Patches:      {total}", file=out)
    print(f"  benign      {_share(parts['benign_patches'], total - empty)}", file=out)
    print(f"  malignant   {_share(parts['malignant_patches'], total - empty)}", file=out)
    if empty:
        print(f"  no tissue   {empty}, not analysed", file=out)
    for warning in image["warnings"]:
        print(f"Warning:      {warning}", file=out)
    print(f"Time:         {image['processing_time_seconds']:.2f} s", file=out)


def _folder(result: dict[str, Any], out: TextIO) -> None:
    images = result["individual_predictions"]
    width = max(len(image["filename"]) for image in images)
    for image in images:
        p = image["probabilities"]
        print(
            f"{image['filename']:<{width}}  {NAMES[image['prediction']]:<13}  {image['confidence']:7.2%}"
            f"  benign {p['benign']:.4f}  malignant {p['malignant']:.4f}",
            file=out,
        )
    print(file=out)
    _result(result["aggregated_diagnosis"], out)
    for reason in result["reasons"]:
        print(f"Review:       {reason['message']}", file=out)
    parts, total = result["image_breakdown"], result["num_images"]
    print(f"Images:       {total}", file=out)
    for kind in ("benign", "malignant", "indeterminate", "excluded"):
        print(f"  {kind:<13} {_share(parts[f'{kind}_images'], total)}", file=out)
    print(f"Time:         {result['processing_time_seconds']:.2f} s", file=out)


class Bar:
    """A progress bar on a terminal; does nothing if the stream is a pipe or a file."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._active = stream.isatty()
        self._drawn = False

    def __call__(self, images_done: int, images: int, done: int, total: int) -> None:
        if not self._active:
            return
        part = (images_done + (done / total if total else 0)) / images
        part = min(part, 1.0)
        full = round(BAR * part)
        bar = "#" * full + "." * (BAR - full)
        image = f"image {min(images_done + 1, images)} of {images}, " if images > 1 else ""
        self._stream.write(f"\r[{bar}] {part:4.0%}  {image}patch {done} of {total}\033[K")
        self._stream.flush()
        self._drawn = True

    def close(self) -> None:
        if self._drawn:
            self._stream.write("\r\033[K")
            self._stream.flush()
