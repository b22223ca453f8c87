"""Prediction on a server, through its API."""

from __future__ import annotations

import urllib.parse
from typing import Any, cast

from inference.cli.client import ApiError, Client, Pending

from .arguments import Task
from .local import Progress


def predict(task: Task, progress: Progress) -> dict[str, Any]:
    """The server's result, in the format of :func:`inference.cli.local.predict`.

    Raises :class:`inference.cli.client.ApiError` and OSError.
    """
    client = Client(task.server, task.token)

    def report(pending: Pending) -> None:
        # The server counts the patches of all images together.
        progress(0, 1, pending["current"], pending["total"])

    try:
        if task.is_folder:
            images, pages = list(task.images), task.all_pages
            answer = client.predict_folder(images, overlap=task.overlap, progress=report, all_pages=pages)
            return cast(dict[str, Any], answer)
        single = client.predict(task.images[0], overlap=task.overlap, progress=report)
    except ApiError as error:
        if error.code == "invalid_file" and error.problem.get("errors"):
            return {"errors": error.problem["errors"]}
        raise
    if task.map_path and single["patch_map_url"]:
        path = urllib.parse.urlsplit(single["patch_map_url"]).path
        task.map_path.write_bytes(client.get(path.removeprefix("/api/v1/")))
    return cast(dict[str, Any], single)
