"""Hooks for schemathesis: small valid images as files, and exceptions from its checks."""

import io
from typing import Any
from urllib.parse import urlencode

import schemathesis
from hypothesis import strategies
from PIL import Image


def noise(sigma: float) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((64, 64), sigma).convert("RGB").save(out, "PNG")
    return out.getvalue()


IMAGES = [noise(sigma) for sigma in (20, 40, 60)]
schemathesis.openapi.format("binary", strategies.sampled_from(IMAGES))


@schemathesis.hook
def filter_query(context: Any, query: Any) -> bool:
    """The web server itself rejects longer URLs (414), without problem details."""
    return not isinstance(query, dict) or len(urlencode(query, doseq=True)) < 3000


@schemathesis.hook
def filter_body(context: Any, body: Any) -> bool:
    """In a form nothing is sent as an empty text, a list of one value as that value, and an empty list not at all:
    none of these is wrong."""
    is_form = isinstance(body, dict) and ("file" in body or "files" in body)
    return not (
        is_form
        and any(value in (None, "") or isinstance(value, list) for name, value in body.items() if name != "files")
    )
