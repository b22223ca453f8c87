"""One file with database, images and models, and the way back.

The database is copied first, consistent in itself; then the files that it speaks of. What is uploaded
meanwhile is in the next backup. A manifest with checksums comes last: without it, or with one that does not
fit, nothing is restored.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.db import connection
from django.utils import timezone

from histopath import __version__
from inference.models import ModelVersion

from .models import Slide

FORMAT = 1
MANIFEST = "manifest.json"
DUMPS = {"sqlite": "database.sqlite3", "postgresql": "database.pgdump"}


class BackupError(Exception):
    """A backup that can't be made or used, and why."""


def make(path: Path) -> int:
    """Write a backup to ``path``, which appears only once it is whole. Returns how many files are in it."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    sums: dict[str, str] = {}
    try:
        unfinished.touch(mode=0o600)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder, tarfile.open(unfinished, "w") as archive:
            dump = Path(folder, DUMPS[connection.vendor])
            _dump(dump)
            with dump.open("rb") as file:
                sums[dump.name] = _add(archive, dump.name, file)
            for name, opened in _files():
                with opened as file:
                    sums[name] = _add(archive, name, file)
            manifest = {
                "format": FORMAT,
                "version": __version__,
                "made_at": timezone.now().isoformat(),
                "database": connection.vendor,
                "sha256": sums,
            }
            _add(archive, MANIFEST, io.BytesIO(json.dumps(manifest, indent=1).encode()))
        unfinished.chmod(0o600)
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return len(sums)


def _files() -> Iterator[tuple[str, Any]]:
    for slide in Slide.objects.iterator():
        for field in (slide.file, slide.thumbnail):
            try:
                yield f"media/{field.name}", field.storage.open(str(field.name))
            except FileNotFoundError:
                # Deleted since the database was copied; ``verify`` says if it should be there.
                continue
    for model in ModelVersion.objects.all():
        if Path(model.path).is_file():
            yield f"models/{model.file}", Path(model.path).open("rb")  # noqa: SIM115  closed by who takes it


def _add(archive: tarfile.TarFile, name: str, file: Any) -> str:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, int(timezone.now().timestamp())
    archive.addfile(entry, file)
    return digest


def _dump(path: Path) -> None:
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        with sqlite3.connect(path) as copy:
            connection.connection.backup(copy)
        copy.close()
    else:
        _postgres("pg_dump", "--format=custom", f"--file={path}")


def _load(path: Path) -> None:
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        with sqlite3.connect(path) as copy:
            copy.backup(connection.connection)
        copy.close()
    else:
        connection.close()
        _postgres(
            "pg_restore", "--clean", "--if-exists", "--no-owner", "--exit-on-error", "--single-transaction", str(path)
        )


def _postgres(program: str, *arguments: str) -> None:
    values = connection.settings_dict
    found = shutil.which(program)
    if found is None:
        raise BackupError(f"{program} is not installed (Debian: apt-get install postgresql-client).")
    environment = {
        "PGHOST": values["HOST"] or "",
        "PGPORT": str(values["PORT"] or ""),
        "PGUSER": values["USER"] or "",
        "PGPASSWORD": values["PASSWORD"] or "",
        "PGDATABASE": values["NAME"],
        # No weaker than the application's own connections.
        "PGSSLMODE": values.get("OPTIONS", {}).get("sslmode", ""),
        "PGSSLROOTCERT": values.get("OPTIONS", {}).get("sslrootcert", ""),
        "PATH": str(Path(found).parent),
    }
    environment = {name: value for name, value in environment.items() if value}
    # pg_restore asks for its database by name.
    extra = [f"--dbname={values['NAME']}"] if program == "pg_restore" else []
    done = subprocess.run([found, *extra, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackupError(f"{program}: {done.stderr.strip()}")


def restore(path: Path) -> int:
    """Put everything back as it was. Nothing is touched before the whole file was checked.

    Returns how many files were restored. Raises :class:`BackupError`.
    """
    with tempfile.TemporaryDirectory(dir=settings.VAR) as folder:
        try:
            with tarfile.open(path, "r:") as archive:
                archive.extractall(folder, filter="data")
            manifest = json.loads(Path(folder, MANIFEST).read_text())
        except (OSError, tarfile.TarError, ValueError) as error:
            raise BackupError(f"{path} is no whole backup: {error}") from error
        _check(Path(folder), manifest)
        _load(Path(folder, DUMPS[connection.vendor]))
        for name in manifest["sha256"]:
            kind, _, rest = name.partition("/")
            source = Path(folder, name)
            if kind == "media":
                default_storage.delete(rest)
                with source.open("rb") as file:
                    default_storage.save(rest, File(file))
            elif kind == "models" and not Path(settings.MODEL_DIR, rest).exists():
                shutil.copyfile(source, Path(settings.MODEL_DIR, rest))
        return len(manifest["sha256"])


def _check(folder: Path, manifest: dict[str, Any]) -> None:
    if manifest.get("format") != FORMAT:
        raise BackupError(f"Format {manifest.get('format')} is not known; {FORMAT} is.")
    if manifest.get("database") != connection.vendor:
        raise BackupError(f"The backup is of {manifest.get('database')}, the database here is {connection.vendor}.")
    if DUMPS[connection.vendor] not in manifest["sha256"]:
        raise BackupError("The backup has no checksum of its database.")
    for name, expected in manifest["sha256"].items():
        kind, _, rest = name.partition("/")
        parts = rest.split("/")
        is_known = name in DUMPS.values() or kind == "media" or (kind == "models" and len(parts) == 1)
        if not is_known or ".." in parts or (rest and "" in parts):
            raise BackupError(f"{name} is no place of a backup's.")
        try:
            with Path(folder, name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BackupError(f"{name} is missing from the backup.") from error
        if found != expected:
            raise BackupError(f"{name} was changed since the backup was made.")
