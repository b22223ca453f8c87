"""What schemathesis sends as a file: small readable images."""

import io

import schemathesis
from hypothesis import strategies
from PIL import Image


def noise(sigma: float) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((64, 64), sigma).convert("RGB").save(out, "PNG")
    return out.getvalue()


IMAGES = [noise(sigma) for sigma in (20, 40, 60)]
schemathesis.openapi.format("binary", strategies.sampled_from(IMAGES))
