"""Command-line options and their validation."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inference.engine.grid import MAX_OVERLAP
from inference.engine.image import SUFFIXES
from inference.engine.runtime import DEVICES, Device


class UsageError(Exception):
    """The options are invalid; exit code 2."""


@dataclass(frozen=True)
class Task:
    """The validated options. ``output`` is ``text``, ``json`` or ``csv``; ``map_path`` the file for the patch map."""

    images: list[Path]
    is_folder: bool
    overlap: float
    device: Device
    threads: int | None
    model: Path | None
    server: str
    token: str
    output: str
    map_path: Path | None


def overlap(text: str) -> float:
    value = float(text)
    if not 0 <= value <= MAX_OVERLAP:
        raise argparse.ArgumentTypeError(f"must be between 0 and {MAX_OVERLAP}")
    return value


def add_to(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what to analyse")
    what.add_argument(
        "--mode", choices=["single", "folder"], help="Default: single with --image, folder with --folder."
    )
    what.add_argument("--image", metavar="PATH", help="An image: PNG, JPEG, BMP or TIFF.")
    what.add_argument("--folder", metavar="DIR", help="A folder of images, or - to read paths from standard input.")
    what.add_argument("--recursive", action="store_true", help="Include subfolders.")
    how = parser.add_argument_group("how to analyse")
    how.add_argument(
        "--overlap", type=overlap, default=0.0, metavar="SHARE", help="Minimum patch overlap, 0 (default) to 0.75."
    )
    how.add_argument("--model", type=Path, metavar="FILE", help="Checkpoint; default: the newest in MODEL_DIR.")
    how.add_argument("--device", choices=DEVICES, default="auto", help="Device or runtime; default: the fastest.")
    how.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: all cores.")
    how.add_argument("--server", default="", metavar="URL", help="Analyse on this server, through its API.")
    how.add_argument("--token", default="", help="API token for --server; default: $HISTOPATH_TOKEN.")
    out = parser.add_argument_group("output")
    form = out.add_mutually_exclusive_group()
    form.add_argument("--json", dest="output", action="store_const", const="json", help="JSON, as in the API.")
    form.add_argument("--csv", dest="output", action="store_const", const="csv", help="CSV, one line per image.")
    out.add_argument("--map", type=Path, metavar="OUT.png", help="Write the patch map of a single image to this file.")
    parser.set_defaults(output="text")


def task_from(options: dict[str, object]) -> Task:
    """The task for parsed options. Raises :class:`UsageError`."""
    given = argparse.Namespace(**options)
    if bool(given.image) == bool(given.folder):
        raise UsageError("Specify either --image or --folder.")
    mode = given.mode or ("single" if given.image else "folder")
    if (mode == "single") != bool(given.image):
        raise UsageError(f"--mode {mode} requires --{'image' if mode == 'single' else 'folder'}.")
    if given.map and mode == "folder":
        raise UsageError("--map works only with a single image.")
    token = given.token or os.environ.get("HISTOPATH_TOKEN", "")
    if given.server and not token:
        raise UsageError("--server requires --token, or HISTOPATH_TOKEN in the environment.")
    if given.server and (given.model or given.device != "auto" or given.threads):
        raise UsageError("--model, --device and --threads can't be combined with --server.")
    images = [Path(given.image)] if given.image else list(dict.fromkeys(_named(given.folder, given.recursive)))
    for image in images:
        if not image.is_file():
            raise UsageError(f"File not found: {image}")
    if not images:
        raise UsageError(f"No images in {given.folder} ({', '.join(SUFFIXES)}).")
    return Task(
        images=images,
        is_folder=mode == "folder",
        overlap=given.overlap,
        device=given.device,
        threads=given.threads,
        model=given.model,
        server=given.server,
        token=token,
        output=given.output,
        map_path=given.map,
    )


def _named(folder: str, recursive: bool) -> Iterator[Path]:
    if folder == "-":
        yield from (Path(line.strip()) for line in sys.stdin if line.strip())
        return
    root = Path(folder)
    if not root.is_dir():
        raise UsageError(f"Folder not found: {root}")
    yield from in_folder(root, recursive)


def in_folder(root: Path, recursive: bool) -> Iterator[Path]:
    """The image files in a folder, chosen by suffix and sorted by path. Hidden files are skipped."""
    for path in sorted(root.rglob("*") if recursive else root.iterdir()):
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith("."):
            yield path
