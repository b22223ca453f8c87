"""System checks: report configuration errors at start-up."""

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
    """Uploads need a writable directory outside the one that WhiteNoise serves."""
    media, static = Path(settings.MEDIA_ROOT).resolve(), Path(settings.STATIC_ROOT).resolve()
    found: list[CheckMessage] = []
    if media == static or static in media.parents:
        found.append(Error("MEDIA_ROOT is inside STATIC_ROOT: uploads would be public.", id="histopath.E001"))
    existing = next(path for path in (media, *media.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        found.append(Error(f"MEDIA_ROOT {media} is not writable.", id="histopath.E002"))
    return found


@register(Tags.files)
def checkpoint_exists(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Analyses need a checkpoint."""
    if any(Path(settings.MODEL_DIR).glob("*.safetensors")):
        return []
    return [
        checks.Warning(
            f"No checkpoint (*.safetensors) in {settings.MODEL_DIR}: images can't be analysed.",
            hint="Restore the file from the repository, or train a model: manage.py train.",
            id="histopath.W001",
        )
    ]


@register(Tags.staticfiles)
def scripts_are_installed(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Third-party scripts must be installed before collectstatic; the slide page needs them."""
    missing = [str(folder) for _, folder in settings.SCRIPTS if not folder.is_dir()]
    if not missing:
        return []
    return [
        Error(
            f"Scripts are missing: {', '.join(missing)}.",
            hint="Run npm ci in the directory of manage.py.",
            id="histopath.E003",
        )
    ]


@register(Tags.security)
def secret_key_is_set(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Sessions, tokens and second factors need a secret that does not change."""
    if settings.HAS_SECRET_KEY:
        return []
    hint = "Set it to at least 40 random characters: python -c 'import secrets; print(secrets.token_urlsafe(50))'"
    return [Error("SECRET_KEY is missing.", hint=hint, id="histopath.E004")]


@register(Tags.security, deploy=True)
def mail_server_is_set(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Password resets need a mail server; without one their links are written to the log."""
    if settings.EMAIL_BACKEND.endswith("console.EmailBackend"):
        return [
            checks.Warning(
                "EMAIL_URL is not set: password reset e-mails are written to the log.",
                id="histopath.W002",
            )
        ]
    return []
