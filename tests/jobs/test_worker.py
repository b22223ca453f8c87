"""The background task, in this process, on real images with a network of random weights."""

import time
import uuid
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import DatabaseError
from PIL import Image

from cases import services
from cases.models import Case, Slide
from inference.engine.image import decode
from inference.engine.predictor import Job, Predictor
from inference.engine.runtime import load
from inference.jobs import queue, worker
from inference.models import Analysis, ModelVersion, PatchTable, State
from inference.registry import activate, add
from tests.factories import add_slide
from tests.reliability.stack import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def real_model(settings: object, random_checkpoint: Path, transactional_db: None) -> ModelVersion:
    settings.MODEL_DIR = random_checkpoint.parent  # type: ignore[attr-defined]
    model = add(random_checkpoint)
    activate(model)
    return model


@pytest.fixture
def waiting(case: Case, media: Path, real_model: ModelVersion) -> Slide:
    return add_slide(case)


def test_processing_the_queue_stores_the_engines_results(waiting: Slide, case: Case, random_checkpoint: Path) -> None:
    assert worker.process_queue() == 1
    analysis = Analysis.objects.get()
    assert (analysis.state, analysis.error, analysis.claim) == (State.DONE, "", None)
    assert (analysis.patches_done, analysis.patches_total) == (12, 12)
    runtime = load(random_checkpoint)
    assert analysis.runtime == runtime.name
    with waiting.file.open() as file:
        expected = Predictor(runtime).predict(decode(file).rgb)
    assert analysis.probability == expected.verdict.probability_malignant
    assert analysis.patches.malignant.tobytes() == expected.probabilities[:, 1].tobytes()
    assert np.array_equal(analysis.patches.activation, expected.activation)
    assert (analysis.benign_patches, analysis.malignant_patches) == (
        expected.verdict.benign_patches,
        expected.verdict.malignant_patches,
    )
    case.refresh_from_db()
    assert (case.state, case.verdict, case.probability) == ("done", analysis.verdict, analysis.probability)


def test_processing_an_empty_queue_changes_nothing(waiting: Slide) -> None:
    worker.process_queue()
    before = Analysis.objects.values().get()
    assert worker.process_queue() == 0
    assert Analysis.objects.values().get() == before


def test_a_damaged_or_missing_file_fails_only_its_analysis(case: Case, media: Path, real_model: ModelVersion) -> None:
    good, damaged, missing = (add_slide(case, name) for name in ("good.png", "damaged.png", "missing.png"))
    with damaged.file.storage.open(damaged.file.name, "wb") as file:
        file.write(ContentFile(b"not an image any more").read())
    missing.file.storage.delete(missing.file.name)
    worker.process_queue()
    ends = {a.slide_id: (a.state, a.error_code) for a in Analysis.objects.all()}
    assert ends == {
        good.pk: (State.DONE, ""),
        damaged.pk: (State.FAILED, "not_an_image"),
        missing.pk: (State.FAILED, "file_missing"),
    }
    case.refresh_from_db()
    assert (case.state, case.failed_count) == ("failed", 1 + 1)


def test_a_missing_model_file_fails_with_its_reason_and_recovers(waiting: Slide, random_checkpoint: Path) -> None:
    worker._predictors.clear()
    hidden = random_checkpoint.rename(random_checkpoint.with_suffix(".hidden"))
    try:
        worker.process_queue()
    finally:
        hidden.rename(random_checkpoint)
    analysis = Analysis.objects.get()
    assert (analysis.state, analysis.error_code) == (State.FAILED, "model_missing")
    queue.request_analyses({waiting.pk: (700, 460)}, waiting.case.owner_id)
    worker.process_queue()
    assert Analysis.objects.get(is_current=True).state == State.DONE


def test_a_case_deleted_while_it_is_analysed_is_no_error(waiting: Slide, case: Case, real_model: ModelVersion) -> None:
    claim = uuid.uuid4()
    analysis = queue.claim_next(claim)
    assert analysis is not None
    prediction = worker.predictor_for(real_model).predict(np.zeros((224, 224, 3), dtype=np.uint8))
    case.delete()
    assert not queue.finish(analysis.pk, claim, prediction, "torch-cpu-fp32")
    assert not PatchTable.objects.exists()


def test_a_stopping_cluster_returns_its_analyses(waiting: Slide) -> None:
    worker.stopping.set()
    try:
        worker.process_queue()
    finally:
        worker.stopping.clear()
    analysis = Analysis.objects.get()
    assert (analysis.state, analysis.attempts) == (State.QUEUED, 0)


def test_the_log_identifies_an_analysis_by_its_id_and_names_no_file(
    waiting: Slide, caplog: pytest.LogCaptureFixture
) -> None:
    analysis = waiting.analyses.get()
    with caplog.at_level("INFO", "inference.jobs.worker"):
        worker.process_queue()
    steps = [record.step for record in caplog.records if getattr(record, "analysis", "") == str(analysis.pk)]
    assert steps == ["claimed", "done"]
    assert waiting.original_name not in caplog.text
    assert str(waiting.pk) in caplog.text


@pytest.mark.parametrize("is_long", [True, False])
def test_nothing_is_claimed_together_with_a_long_image(waiting: Slide, case: Case, is_long: bool) -> None:
    """It would wait for all patches of that image, while another worker may be free."""
    other = add_slide(case, "other.png")
    if is_long:
        Slide.objects.filter(pk=waiting.pk).update(width=224 * 16, height=224 * 16)
    with worker.LeaseHeartbeat(uuid.uuid4()) as heartbeat:
        jobs = worker._QueueRun(heartbeat.claim, heartbeat)._jobs(waiting.analyses.get().model_version_id)
        assert next(jobs).key == waiting.analyses.get().pk
        assert [job.key for job in jobs] == ([] if is_long else [other.analyses.get().pk])
    assert other.analyses.get().state == (State.QUEUED if is_long else State.RUNNING)


def test_an_analysis_that_killed_a_worker_is_retried_alone(
    case: Case, media: Path, real_model: ModelVersion, caplog: pytest.LogCaptureFixture
) -> None:
    """It may kill the worker again, which would cost other claimed analyses an attempt."""
    slides = [add_slide(case, f"{n}.png") for n in range(5)]
    suspect = Analysis.objects.get(slide=slides[2])
    Analysis.objects.filter(pk=suspect.pk).update(attempts=1)
    with caplog.at_level("INFO", "inference.jobs.worker"):
        worker.process_queue()
    steps = [(record.step, record.analysis) for record in caplog.records if hasattr(record, "step")]
    claimed = steps.index(("claimed", str(suspect.pk)))
    assert steps[claimed + 1] == ("done", str(suspect.pk))
    assert [step for step, _ in steps[:claimed]].count("done") == 2
    assert Analysis.objects.filter(state=State.DONE).count() == 5


@pytest.mark.parametrize("shape", [(4096, 16), (16, 4096)])
def test_an_extreme_aspect_ratio_blocks_nobody(
    shape: tuple[int, int], case: Case, media: Path, real_model: ModelVersion
) -> None:
    out = BytesIO()
    Image.new("RGB", shape, (200, 140, 190)).save(out, "PNG")
    services.add_slides(case, [SimpleUploadedFile("strip.png", out.getvalue())])
    add_slide(case)
    worker.process_queue()
    assert set(Analysis.objects.values_list("state", flat=True)) == {State.DONE}


@pytest.mark.parametrize("error", [ValueError("no such device"), OSError(5, "Input/output error")])
def test_an_unloadable_model_fails_visibly(error: Exception, waiting: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise error

    monkeypatch.setattr(worker, "predictor_for", broken)
    worker.process_queue()
    analysis = Analysis.objects.get()
    assert (analysis.state, analysis.error_code) == (State.FAILED, "model_unusable")
    assert type(error).__name__ in analysis.error


def test_no_analysis_is_retried_for_ever(waiting: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a result cannot be stored, the analysis fails visibly after three attempts."""

    def broken(*args: object, **kwargs: object) -> None:
        raise DatabaseError("for this test")

    monkeypatch.setattr(queue, "finish", broken)
    for attempt in range(1, 4):
        with pytest.raises(DatabaseError):
            worker.process_queue()
        assert Analysis.objects.get().attempts == attempt
        queue.reclaim_expired()
    analysis = Analysis.objects.get()
    assert (analysis.state, analysis.error_code) == (State.FAILED, "interrupted")


@pytest.mark.django_db(transaction=True)
def test_a_stalled_worker_loses_its_lease(waiting: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hanging network must not keep its lease."""
    renewed, written = list[uuid.UUID](), list[int]()
    monkeypatch.setattr(worker, "PROGRESS_EVERY", 0.02)
    monkeypatch.setattr(worker, "RENEW_EVERY", 0.0)
    monkeypatch.setattr(queue, "renew", lambda claim, _: renewed.append(claim))
    monkeypatch.setattr(queue, "progress", lambda *values: written.append(values[2]) or True)
    claim = uuid.uuid4()
    analysis = queue.claim_next(claim)
    assert analysis is not None
    job = Job(analysis.pk, lambda: None)  # type: ignore[arg-type, return-value]

    def rounds(heartbeat: worker.LeaseHeartbeat) -> None:
        """The thread of the heartbeat comes round twice, so that at least one round began after this call."""
        for done in range(2):
            written.clear()
            heartbeat.report(job, done, 12)
            until(10, lambda: written, "progress is written")

    with worker.LeaseHeartbeat(claim) as heartbeat:
        heartbeat.hold(analysis)
        until(10, lambda: renewed, "it renews")
        # However short ago the last progress was, it is too long ago.
        monkeypatch.setattr(worker, "STALL_SECONDS", -1.0)
        rounds(heartbeat)
        count = len(renewed)
        rounds(heartbeat)
        assert len(renewed) == count
        monkeypatch.setattr(worker, "STALL_SECONDS", 60.0)
        heartbeat.report(job, 3, 12)
        until(10, lambda: len(renewed) > count, "it renews again")


def test_a_slide_removed_during_analysis_delays_nobody(
    case: Case, media: Path, real_model: ModelVersion, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    removed, other = add_slide(case, "removed.png"), add_slide(case, "other.png")
    analysis = Analysis.objects.get(slide=removed)
    Analysis.objects.filter(pk=analysis.pk).update(overlap=0.75)
    monkeypatch.setattr(worker, "PROGRESS_EVERY", 0.01)
    seen: list[tuple[int, int]] = []
    report = worker.LeaseHeartbeat.report

    def told(self: worker.LeaseHeartbeat, job: Job, done: int, total: int) -> None:
        if job.key == analysis.pk:
            seen.append((done, total))
            if len(seen) == 1:
                services.remove_slide(removed, case.owner)
        report(self, job, done, total)
        time.sleep(0.1)

    monkeypatch.setattr(worker.LeaseHeartbeat, "report", told)
    with caplog.at_level("INFO", "inference.jobs.worker"):
        worker.process_queue()
    assert f"Analysis {analysis.pk} cancelled" in caplog.text
    assert seen[-1][0] < seen[-1][1] / 2
    assert other.analyses.get().state == State.DONE
