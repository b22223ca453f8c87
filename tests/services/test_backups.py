"""A manipulated backup does no harm."""

from __future__ import annotations

import io
import json
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from cases.services import backups


def forged(path: Path, files: dict[str, bytes], unlisted: dict[str, bytes] | None = None) -> None:
    whole = {**files, **(unlisted or {})}
    manifest = {
        "format": backups.FORMAT,
        "version": "0",
        "made_at": "",
        "database": connection.vendor,
        "sha256": {name: sha256(content).hexdigest() for name, content in files.items()},
    }
    whole["models/good.safetensors"] = whole["media/good.png"] = b""
    whole[backups.MANIFEST] = json.dumps(manifest).encode()
    with tarfile.open(path, "w") as archive:
        for name, content in whole.items():
            entry = tarfile.TarInfo(name.replace("models/../", "", 1).replace("media/../", "", 1).lstrip("/"))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


@pytest.mark.parametrize("name", ["models/../planted.py", "media/../planted.py", "/etc/planted", "other/planted"])
def test_a_backup_can_not_plant_files_elsewhere(
    name: str, tmp_path: Path, settings: Any, media: Path, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MODEL_DIR = tmp_path / "models"
    settings.MODEL_DIR.mkdir()
    monkeypatch.setattr(backups, "_load", lambda _: pytest.fail("nothing may be touched"))
    path = tmp_path / "backup.tar"
    forged(path, {name: b"planted", backups.DUMPS[connection.vendor]: b""})
    with pytest.raises(backups.BackupError):
        backups.restore(path)
    assert not (tmp_path / "planted.py").exists()


def test_a_database_without_a_checksum_is_not_loaded(
    tmp_path: Path, media: Path, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backups, "_load", lambda _: pytest.fail("nothing may be touched"))
    path = tmp_path / "backup.tar"
    forged(path, {}, unlisted={backups.DUMPS[connection.vendor]: b""})
    with pytest.raises(backups.BackupError, match="no checksum"):
        backups.restore(path)
