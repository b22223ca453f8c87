"""System checks: what would break later is said at the start."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register


@register(Tags.files)
def storage_is_writable(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Uploads need a directory that can be written, apart from what WhiteNoise serves."""
    media, static = Path(settings.MEDIA_ROOT).resolve(), Path(settings.STATIC_ROOT).resolve()
    found: list[CheckMessage] = []
    if media == static or static in media.parents:
        found.append(Error("MEDIA_ROOT lies under STATIC_ROOT: uploads would be public.", id="histopath.E001"))
    existing = next(path for path in (media, *media.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        found.append(Error(f"MEDIA_ROOT {media} can't be written.", id="histopath.E002"))
    return found


@register(Tags.files)
def model_is_there(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Without a checkpoint nothing can be analysed."""
    if any(Path(settings.MODEL_DIR).glob("*.safetensors")):
        return []
    return [
        checks.Warning(
            f"No checkpoint (*.safetensors) in {settings.MODEL_DIR}: images can't be analysed.",
            hint="Restore the file from the repository, or train one: manage.py train.",
            id="histopath.W001",
        )
    ]


@register(Tags.staticfiles)
def scripts_are_there(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Without the scripts of others collectstatic leaves them out, and the page of a slide can't be shown."""
    missing = [str(folder) for _, folder in settings.SCRIPTS if not folder.is_dir()]
    if not missing:
        return []
    return [
        Error(f"Scripts are missing: {', '.join(missing)}.", hint="Run npm ci beside manage.py.", id="histopath.E003")
    ]


@register(Tags.security)
def secret_key_is_set(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Sessions, tokens and second factors depend on a secret that stays the same."""
    if settings.HAS_SECRET_KEY:
        return []
    hint = "Set it to at least 40 random characters: python -c 'import secrets; print(secrets.token_urlsafe(50))'"
    return [Error("SECRET_KEY is missing.", hint=hint, id="histopath.E004")]


@register(Tags.security, deploy=True)
def mail_goes_somewhere(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Password resets need a mail server; without one their links end up in the log."""
    if settings.EMAIL_BACKEND.endswith("console.EmailBackend"):
        return [
            checks.Warning(
                "EMAIL_URL is not set: password reset mails are printed to the log.",
                id="histopath.W002",
            )
        ]
    return []
