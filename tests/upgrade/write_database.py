"""Wrote ``database.sql`` and ``media/``. Runs with the code of commit d56175d, from its root directory:

SECRET_KEY=only-for-tests-... VAR_DIR=EMPTY MODEL_DIR=EMPTY python write_database.py TARGET
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import uuid
from io import BytesIO
from pathlib import Path

import django
import numpy as np
from PIL import Image

os.environ["DJANGO_SETTINGS_MODULE"] = "histopath.settings"
os.environ["HTTPS"] = "off"
django.setup()

from allauth.mfa.adapter import get_adapter  # noqa: E402
from allauth.mfa.models import Authenticator  # noqa: E402
from django.conf import settings  # noqa: E402
from django.core.files.uploadedfile import SimpleUploadedFile  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from cases import audit, services, tokens  # noqa: E402
from cases.models import ApiToken, Case, Event, Identity, Removal, Report, Review, Seal, Slide, User  # noqa: E402
from inference import queue  # noqa: E402
from inference.engine.checkpoint import Metadata, save  # noqa: E402
from inference.engine.domain import DomainResult  # noqa: E402
from inference.engine.grid import Grid  # noqa: E402
from inference.engine.network import build  # noqa: E402
from inference.engine.predictor import Prediction  # noqa: E402
from inference.engine.verdict import slide_verdict  # noqa: E402
from inference.models import Analysis, Lane, PatchTable  # noqa: E402

PASSWORD = "correct horse battery staple"
TOTP_SECRET = "JBSWY3DPEHPK3PXP"
TABLES = [User, ApiToken, Case, Slide, Review, Report, Event, Seal, Identity, Removal, Analysis, PatchTable, Lane]


def upload(seed: int) -> SimpleUploadedFile:
    pixels = np.full((230, 460, 3), (200, 140, 190), dtype=np.uint8)
    pixels[:8, :8] = np.random.default_rng(seed).integers(0, 256, (8, 8, 3))
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return SimpleUploadedFile(f"field {seed} ×40.png", out.getvalue())


def finish(malignant: float) -> None:
    claim = uuid.uuid4()
    analysis = queue.claim_next(claim)
    assert analysis is not None
    grid = Grid(analysis.slide.width, analysis.slide.height, analysis.overlap)
    column = np.full(len(grid), malignant, dtype=np.float32)
    probabilities = np.stack([1 - column, column], axis=1)
    activation = np.ones((len(grid), 7, 7), dtype=np.float16)
    domain = DomainResult(in_domain=True)
    verdict = slide_verdict(probabilities, Metadata(name="random", version="0"), domain)
    assert queue.finish(analysis.pk, claim, Prediction(grid, probabilities, activation, verdict, domain, 0.5), "test")


def contents() -> dict[str, object]:
    """What the test compares after the upgrade."""
    return {
        "counts": {model.__name__: model.objects.count() for model in TABLES},
        "users": list(User.objects.order_by("username").values_list("username", "email", "is_superuser", "theme")),
        "cases": list(
            Case.objects.order_by("title").values(
                "title",
                "patient",
                "notes",
                "owner__username",
                "verdict",
                "probability",
                "slide_count",
                "open_count",
                "failed_count",
                "is_blinded",
                "assigned_to__username",
                "tags__name",
            )
        ),
        "slides": list(
            Slide.objects.order_by("original_name", "pk").values("original_name", "file", "sha256", "stored_sha256")
        ),
        "analyses": list(
            Analysis.objects.order_by("turn", "queued_at").values(
                "slide__original_name",
                "state",
                "verdict",
                "probability",
                "raw_probability",
                "benign_patches",
                "malignant_patches",
                "runtime",
                "attempts",
                "error_code",
                "model_version__sha256",
                "is_current",
            )
        ),
        "patches": [
            [table.analysis.slide.original_name, hashlib.sha256(bytes(table.malignant_bytes)).hexdigest()]
            for table in PatchTable.objects.order_by("analysis__slide__original_name")
        ],
        "readings": list(
            Review.objects.order_by("created_at").values(
                "case__title", "author__username", "reading", "subtype", "comment", "verdict", "probability"
            )
        ),
        "trail": list(audit.rows(Event.objects.order_by("pk"))),
        "checkpoints": list(Seal.objects.order_by("pk").values("count", "previous", "hash")),
        "pending_deletion": list(Removal.objects.values_list("name", flat=True)),
        "queue_state": list(Lane.objects.order_by("person").values_list("person", "end")),
        "tokens": list(ApiToken.objects.order_by("name").values_list("user__username", "name", "token_key")),
    }


def main(target: Path) -> None:
    checkpoint = Path(settings.MODEL_DIR, "random.safetensors")
    metadata = Metadata(name="random", version="0")
    save(checkpoint, {name: tensor.numpy() for name, tensor in build(metadata).state_dict().items()}, metadata)
    call_command("migrate", interactive=False, verbosity=0)

    alice = User.objects.create_user("alice", "alice@example.org", PASSWORD, theme="dark")
    rita = User.objects.create_superuser("rita", "rita@example.org", PASSWORD)
    Authenticator.objects.create(
        user=alice, type=Authenticator.Type.TOTP, data={"secret": get_adapter().encrypt(TOTP_SECRET)}
    )
    _, secret = tokens.create(alice, "laptop")
    tokens.create(rita, "script")
    with audit.client_address("192.0.2.7"):
        audit.record(Event.Kind.SIGNED_IN, actor=alice)
        case = Case.objects.create(
            owner=alice, title="Left breast", patient="P-17", notes="Äther & <b>", is_blinded=True
        )
        services.record(case, Event.Kind.CREATED, alice)
        services.set_tags(case, ["teaching"])
        services.add_slides(case, [upload(1), upload(2)])
        services.assign(case, rita, alice)
    finish(0.9)
    finish(0.8)
    case.refresh_from_db()
    services.sign_review(case, rita, "malignant", "ductal", "Grade 2")
    services.sign_review(case, alice, "benign")
    audit.add_checkpoint()
    other = Case.objects.create(owner=rita, title="Second opinion")
    services.record(other, Event.Kind.CREATED, rita)
    services.add_slides(other, [upload(3), upload(4)])
    claim = uuid.uuid4()
    failed = queue.claim_next(claim)
    assert failed is not None and queue.fail(failed.pk, claim, "interrupted", "The worker stopped 3 times.")
    gone = Case.objects.create(owner=rita, title="Deleted")
    services.remove_case(gone, rita)
    audit.add_checkpoint()
    audit.record(Event.Kind.SIGNED_OUT, actor=alice)
    Removal.objects.create(name="slides/00/waits-for-the-store.png")
    assert audit.verify() == []

    with (target / "database.sql").open("w") as file:
        connection.ensure_connection()
        file.writelines(f"{line}\n" for line in connection.connection.iterdump())
    expected = {**contents(), "token": secret, "password": PASSWORD, "totp_secret": TOTP_SECRET}
    (target / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False, default=str) + "\n")
    shutil.copytree(settings.MEDIA_ROOT, target / "media")


main(Path(sys.argv[1]))
