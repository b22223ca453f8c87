"""Command-line options and their validation."""

from __future__ import annotations

import argparse
import os
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from inference.engine.formats import table
from inference.engine.grid import MAX_OVERLAP
from inference.engine.runtime import DEVICES, Device


class UsageError(Exception):
    """The options are invalid; exit code 2."""


@dataclass(frozen=True)
class Task:
    """The validated options. ``output`` is ``text``, ``json`` or ``csv``; ``map_path`` the file for the patch map;
    ``left_out`` are the files of the folder that are not images."""

    images: list[Path]
    left_out: list[Path]
    is_folder: bool
    all_pages: bool
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
    what.add_argument("--image", metavar="PATH", help=f"An image: {table.NAMES}.")
    what.add_argument("--folder", metavar="DIR", help="A folder of images, or - to read paths from standard input.")
    what.add_argument("--recursive", action="store_true", help="Include subfolders.")
    how = parser.add_argument_group("how to analyse")
    how.add_argument(
        "--overlap", type=overlap, default=0.0, metavar="SHARE", help="Minimum patch overlap, 0 (default) to 0.75."
    )
    how.add_argument(
        "--all-pages", action="store_true", help="Every page of a file that is a picture of its own; for --folder."
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
    if given.all_pages and mode == "single":
        raise UsageError("--all-pages works only with --folder.")
    token = given.token or os.environ.get("HISTOPATH_TOKEN", "")
    if given.server and not token:
        raise UsageError("--server requires --token, or HISTOPATH_TOKEN in the environment.")
    if given.server and (given.model or given.device != "auto" or given.threads):
        raise UsageError("--model, --device and --threads can't be combined with --server.")
    images, left_out = ([Path(given.image)], []) if given.image else _named(given.folder, given.recursive)
    for image in images:
        if not image.is_file():
            raise UsageError(f"File not found: {readable(str(image))}")
    if not images:
        raise UsageError(f"No images in {readable(given.folder)} ({table.NAMES}).")
    return Task(
        images=images,
        left_out=left_out,
        is_folder=mode == "folder",
        all_pages=given.all_pages,
        overlap=given.overlap,
        device=given.device,
        threads=given.threads,
        model=given.model,
        server=given.server,
        token=token,
        output=given.output,
        map_path=given.map,
    )


def readable(name: str) -> str:
    """A file's name as text for any output: control characters and bytes that are no UTF-8 are escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    escaped = (repr(char)[1:-1] if unicodedata.category(char)[0] == "C" else char for char in text)
    return unicodedata.normalize("NFC", "".join(escaped))


def _named(folder: str, recursive: bool) -> tuple[list[Path], list[Path]]:
    """The images, and the files that are left out."""
    if folder == "-":
        # The bytes, because names need not be text.
        typed = (os.fsdecode(line.strip()) for line in sys.stdin.buffer)
        return list(dict.fromkeys(Path(line) for line in typed if line)), []
    root = Path(folder)
    if not root.is_dir():
        raise UsageError(f"Folder not found: {readable(folder)}")
    return in_folder(root, recursive)


def in_folder(root: Path, recursive: bool) -> tuple[list[Path], list[Path]]:
    """The images in a folder, sorted by path, and the files that are not images. Hidden and system files are skipped.

    The content decides. A file with the suffix of an image is taken as one, so that it is reported if it is damaged.
    """
    images: list[Path] = []
    others: list[Path] = []
    for path in sorted(root.rglob("*") if recursive else root.iterdir()):
        if table.is_litter(path.name) or not path.is_file():
            continue
        with path.open("rb") as file:
            found = table.is_image(file.read(table.HEAD)) or path.suffix.lower() in table.SUFFIXES
        (images if found else others).append(path)
    return images, others
