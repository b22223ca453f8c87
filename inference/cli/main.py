"""Runs the command. Exit codes: 0 success, 1 an image or the whole run failed, 2 invalid options."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from inference.cli.client import ApiError
from inference.engine.checkpoint import CheckpointError

from . import local, remote, show
from .arguments import UsageError, task_from


def run(options: dict[str, object], model_dir: Path, out: TextIO, err: TextIO) -> int:
    try:
        task = task_from(options)
    except UsageError as error:
        print(error, file=err)
        return 2
    bar = show.Bar(err)
    try:
        result = remote.predict(task, bar) if task.server else local.predict(task, model_dir, bar)
    except (CheckpointError, ApiError, OSError, RuntimeError, ValueError) as error:
        print(error, file=err)
        return 1
    finally:
        bar.close()
    show.write(result, task.output, out)
    if task.map_path and result.get("verdict") == "out_of_domain":
        print(f"{task.map_path} was not written: an image that is not H&E breast tissue has no map.", file=err)
    show.left_out(task.left_out, err)
    failed = show.errors_of(result)
    for problem in failed:
        print(f"{problem['filename']} {problem['reason']}", file=err)
    return 1 if failed else 0
