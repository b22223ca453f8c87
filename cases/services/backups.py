"""One file with database, images and models, and the way back.

The database is copied first, consistent in itself; then the files that it speaks of. What is uploaded
meanwhile is in the next backup; slides that are deleted meanwhile are named, and are gone after a restore too. A
manifest with checksums comes last: without it, or with one that does not fit, nothing is restored.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import logging
import re
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Q
from django.utils import timezone

from cases.models import Slide
from inference.engine import quantised
from inference.engine.checkpoint import sha256

log = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"
DUMPS = {"sqlite": "database.sqlite3", "postgresql": "database.pgdump"}


class BackupError(Exception):
    """A backup that can't be made or used, and why."""


def make(path: Path) -> tuple[int, int]:
    """Write a backup to ``path``, which appears only once it is whole.

    Returns how many files are in it, and how many that slides have are not, as the store has them no more.
    """
    sums: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.") as folder:
        unfinished = Path(folder, "unfinished")
        unfinished.touch(mode=0o600)
        with tarfile.open(unfinished, "w") as archive:
            dump = Path(folder, DUMPS[connection.vendor])
            slides, models = _dump(dump)
            with dump.open("rb") as file:
                sums[dump.name] = _add(archive, dump.name, file)
            gone = []
            for name in slides:
                try:
                    with default_storage.open(name) as file:
                        sums[f"media/{name}"] = _add(archive, f"media/{name}", file)
                except FileNotFoundError:
                    gone.append(name)
            # With the quantised form, which takes labelled images to make.
            for name in (one for model in models for one in (model, *_beside(model))):
                if Path(settings.MODEL_DIR, name).is_file():
                    with Path(settings.MODEL_DIR, name).open("rb") as file:
                        sums[f"models/{name}"] = _add(archive, f"models/{name}", file)
            missing = [name for name in gone if Slide.objects.filter(Q(file=name) | Q(thumbnail=name)).exists()]
            manifest = {
                "format": FORMAT,
                "version": settings.VERSION,
                "made_at": timezone.now().isoformat(),
                "database": connection.vendor,
                "sha256": sums,
                # Of slides that were deleted while this was written, unless ``verify`` missed them before.
                "gone": [name for name in gone if name not in missing],
            }
            _add(archive, MANIFEST, io.BytesIO(json.dumps(manifest, indent=1).encode()))
        unfinished.rename(path)
    return len(sums), len(missing)


def _add(archive: tarfile.TarFile, name: str, file: Any) -> str:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, int(timezone.now().timestamp())
    archive.addfile(entry, file)
    return digest


def _beside(model: str) -> list[str]:
    """What the faster forms consist of."""
    int8 = [quantised.path_of(Path(model), suffix).name for suffix in ("xml", "bin", "json")]
    return [*int8, quantised.path_of(Path(model), "json", "bf16").name]


#: Where the names of files stand.
NAMES = (
    "SELECT file FROM cases_slide UNION ALL SELECT thumbnail FROM cases_slide",
    "SELECT file FROM inference_modelversion",
)


def _dump(path: Path) -> tuple[list[str], list[str]]:
    """Copy the database. Returns the names of the slides' and of the models' files, as that copy has them."""
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        with contextlib.closing(sqlite3.connect(path)) as copy:
            connection.connection.backup(copy)
            slides, models = ([str(name) for (name,) in copy.execute(query)] for query in NAMES)
        return slides, models
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT pg_export_snapshot()")
        (snapshot,) = cursor.fetchone()
        own, newer = _tables(cursor)
        tables = (f"--table={table}" for table in own + newer)
        _postgres("pg_dump", "--format=custom", f"--snapshot={snapshot}", f"--file={path}", "--strict-names", *tables)
        found = []
        for query in NAMES:
            cursor.execute(query)
            found.append([str(name) for (name,) in cursor.fetchall()])
    return found[0], found[1]


def newer_tables() -> list[str]:
    """Which tables would go with a restore that this version doesn't know: people should see them before they agree."""
    if connection.vendor == "sqlite":
        return []
    with connection.cursor() as cursor:
        return _tables(cursor)[1]


def _tables(cursor: Any) -> tuple[list[str], list[str]]:
    """The application's tables with their schemas, quoted, and those of a newer version that was here: whatever begins
    as tables of an app do of which a migration is not known. Others may have theirs there, and keep them: the names of
    libraries that are in use ("auth", "account") are not the application's own, so what only begins so is nobody's."""
    migrations = MigrationRecorder.Migration._meta.db_table
    known = {migrations, *connection.introspection.django_table_names(only_existing=True, include_views=False)}
    cursor.execute(
        "SELECT relname, nspname, quote_ident(nspname) || '.' || quote_ident(relname),"
        " pg_get_userbyid(relowner) = current_user"
        " FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE pg_table_is_visible(pg_class.oid) AND relkind IN ('r', 'p') ORDER BY 3"
    )
    found = cursor.fetchall()
    home = {schema for name, schema, _, _ in found if name == migrations}
    on_disk = MigrationLoader(None, ignore_no_migrations=True).disk_migrations or {}
    newer = {app for app, name in MigrationRecorder(connection).applied_migrations() if (app, name) not in on_disk}
    libraries = {config.label for config in apps.get_app_configs()} - {"cases", "inference"}
    if ahead := sorted(newer & libraries):
        log.warning(
            "A newer version of %s was here; tables that it brought are neither saved nor dropped.", ", ".join(ahead)
        )
    # Django's own call theirs by what is in them: that of "sites" is "django_site".
    starts = tuple(start for app in newer - libraries for start in (f"{app}_", f"django_{app[:-1]}"))
    own = [str(table) for name, _, table, _ in found if name in known]
    begin_so = [
        str(table)
        for name, schema, table, is_own in found
        if name not in known and schema in home and is_own and name.startswith(starts)
    ]
    return own, begin_so


#: Of a dump what is the server's: earlier versions' have its administrator's extensions, and the schema, too.
FOREIGN = re.compile(r"^\d+; \d+ \d+ (COMMENT - )?(EXTENSION\b|SCHEMA - public\b|SCHEMA public\b)")


def _load(path: Path) -> None:
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        with contextlib.closing(sqlite3.connect(path)) as copy:
            copy.backup(connection.connection)
        return
    # All of the application's goes first: the backup may be of an older version, which knows nothing of newer tables.
    script, clearing = path.with_suffix(".sql"), path.with_suffix(".clear.sql")
    with connection.cursor() as cursor:
        own, newer = _tables(cursor)
    connection.close()
    # At once, as they name each other, and no more than they: what others hang on them stops it.
    clearing.write_text(f"DROP TABLE {', '.join(own + newer)};\n" if own else "")
    parts, wanted = path.with_suffix(".all"), path.with_suffix(".wanted")
    _postgres("pg_restore", "--list", f"--file={parts}", str(path))
    listed = [part for part in parts.read_text().splitlines(True) if not FOREIGN.search(part)]
    if not any(" TABLE DATA " in part and " cases_slide " in part for part in listed):
        raise BackupError("The backup's database has none of the application's tables.")
    wanted.write_text("".join(listed))
    chosen = ("--no-owner", "--no-privileges", f"--use-list={wanted}")
    _postgres("pg_restore", *chosen, f"--file={script}", str(path))
    _postgres(
        "psql", "--quiet", "--no-psqlrc", "--single-transaction", "--set=ON_ERROR_STOP=1", "--output=/dev/null",
        f"--file={clearing}", f"--file={script}",
    )  # fmt: skip


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
    done = subprocess.run([found, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackupError(f"{program}: {done.stderr.strip()}")


def restore(path: Path) -> tuple[int, list[str], list[str]]:
    """Put everything back as it was. Nothing is touched before the whole file was checked.

    Returns how many files were restored, names of files that slides have no more as they were being deleted, and what
    models could not be written (where ``MODEL_DIR`` belongs to an image, say). Raises :class:`BackupError`.
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
        left_out = []
        for name in manifest["sha256"]:
            kind, _, rest = name.partition("/")
            source = Path(folder, name)
            try:
                if kind == "media":
                    _put_back(source, rest)
                elif kind == "models":
                    _put_back_model(source, Path(settings.MODEL_DIR, rest))
            except OSError as error:
                if kind == "models" and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                    left_out.append(f"{name}: {error.strerror}")
                    continue
                raise BackupError(
                    f"{name} can't be written ({error.strerror}); make room and restore again."
                ) from error
        return len(manifest["sha256"]) - len(left_out), list(manifest.get("gone", [])), left_out


def _put_back(source: Path, name: str) -> None:
    with source.open("rb") as file:
        if default_storage.exists(name):
            with default_storage.open(name) as present:
                if hashlib.file_digest(present, "sha256").digest() == hashlib.file_digest(file, "sha256").digest():
                    return
            file.seek(0)
            default_storage.delete(name)
        default_storage.save(name, File(file))


def _put_back_model(source: Path, target: Path) -> None:
    if target.exists() and sha256(target) == sha256(source):
        return
    partial = target.with_name(f"{target.name}.partial")
    try:
        shutil.copyfile(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _check(folder: Path, manifest: dict[str, Any]) -> None:
    if not isinstance(manifest, dict) or not isinstance(manifest.get("sha256"), dict):
        raise BackupError("The backup has no list of its files.")
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
