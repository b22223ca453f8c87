"""Processes that the application starts."""

from __future__ import annotations

import os
from pathlib import Path


def decoder_pid() -> int:
    """The one decoder process of this process (Linux)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it ended meanwhile
        if int(parent) == os.getpid() and state != "Z" and b"cases.images.sandbox_worker" in command:
            found.append(int(folder.name))
    (pid,) = found
    return pid
