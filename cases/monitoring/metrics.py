"""Metrics for Prometheus: requests of this process, and queue, workers and results from the database."""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import numpy as np
from django.conf import settings
from django.db.models import Avg, Count, F, FloatField, Q, QuerySet, Sum
from django.db.models.functions import Cast
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from cases.images.serving import MISSING
from inference.models import Analysis, Cluster, State, Verdict

REQUESTS = CollectorRegistry()
SECONDS = Histogram(
    "histopath_request_seconds",
    "Time to answer, by view",
    ["method", "view"],
    registry=REQUESTS,
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
ANSWERS = Counter("histopath_requests", "Requests, by view and status", ["method", "view", "status"], registry=REQUESTS)
REQUESTS.register(MISSING)

#: Period of the metrics on results and speed.
RECENT = timedelta(days=1)
#: Drift compares the last week with the 90 days before it.
DRIFT_NOW, DRIFT_BEFORE = timedelta(days=7), timedelta(days=90)
#: With fewer results in either period, no drift is reported.
DRIFT_MIN_RESULTS = 50
BINS = np.linspace(0, 1, 11)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class MetricsMiddleware:
    """Counts and times requests by view name, so that ids never become labels."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.monotonic()
        answer = self.get_response(request)
        match = request.resolver_match
        view = match.view_name if match else "none"
        method = request.method if request.method in METHODS else "other"
        SECONDS.labels(method, view).observe(time.monotonic() - started)
        ANSWERS.labels(method, view, str(answer.status_code)).inc()
        return answer


def population_stability(before: np.ndarray, now: np.ndarray) -> float:
    """Population stability index of two samples of probabilities (0 to 1), over ten bins: the sum of
    (b - a) ln(b / a), where a and b are the shares of a bin.

    Below 0.1 is commonly considered stable, above 0.25 a shift (Siddiqi, Credit Risk Scorecards, 2006). Half a
    count is added to each bin, so that an empty bin does not make the index infinite.
    """
    a, b = (np.histogram(values, BINS)[0] + 0.5 for values in (before, now))
    a, b = a / a.sum(), b / b.sum()
    return float(np.sum((b - a) * np.log(b / a)))


class Work(Collector):
    """Queue, workers and results, queried from the database at each scrape."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        now = timezone.now()
        states = dict(
            Analysis.objects.filter(state__in=(State.QUEUED, State.RUNNING))
            .values_list("state")
            .annotate(n=Count("pk"))
            .order_by()
        )
        depth = GaugeMetricFamily("histopath_analyses_open", "Queued and running analyses", labels=["state"])
        for state in (State.QUEUED, State.RUNNING):
            depth.add_metric([state], states.get(state, 0))
        yield depth
        oldest = (
            Analysis.objects.filter(state=State.QUEUED)
            .order_by("queued_at")
            .values_list("queued_at", flat=True)
            .first()
        )
        yield GaugeMetricFamily(
            "histopath_queue_age_seconds", "Age of the oldest queued analysis",
            value=(now - oldest).total_seconds() if oldest else 0,
        )  # fmt: skip
        seen = now - timedelta(seconds=settings.WORKER_TIMEOUT)
        yield GaugeMetricFamily(
            "histopath_clusters",
            "Worker clusters with a recent heartbeat",
            value=Cluster.objects.filter(seen_at__gte=seen).count(),
        )
        yield from self._results(Analysis.objects.filter(finished_at__gte=now - RECENT))
        yield from self._drift()

    def _results(self, ended: QuerySet[Analysis]) -> Iterator[GaugeMetricFamily]:
        done = ended.filter(state=State.DONE)
        verdicts = dict(done.values_list("verdict").annotate(n=Count("pk")).order_by())
        mix = GaugeMetricFamily("histopath_verdicts_day", "Results of the last day", labels=["verdict"])
        for verdict in Verdict.values:
            mix.add_metric([verdict], verdicts.get(verdict, 0))
        yield mix
        total = sum(verdicts.values())
        outside = verdicts.get(Verdict.OUT_OF_DOMAIN, 0)
        yield GaugeMetricFamily(
            "histopath_out_of_domain_share_day",
            "Share of the last day's results that are not H&E breast tissue",
            value=outside / total if total else 0,
        )
        yield GaugeMetricFamily(
            "histopath_failures_day", "Failed analyses of the last day",
            value=ended.filter(state=State.FAILED).count(),
        )  # fmt: skip
        patches = Cast(F("benign_patches") + F("malignant_patches"), FloatField())
        speed = done.filter(~Q(verdict=Verdict.OUT_OF_DOMAIN)).aggregate(
            slide=Avg("seconds"), all=Sum("seconds"), n=Sum(patches)
        )
        yield GaugeMetricFamily("histopath_slide_seconds_day", "Mean time per slide", value=speed["slide"] or 0)
        yield GaugeMetricFamily(
            "histopath_patch_seconds_day", "Mean time per patch", value=speed["all"] / speed["n"] if speed["n"] else 0
        )

    def _drift(self) -> Iterator[GaugeMetricFamily]:
        now = timezone.now()
        drift = GaugeMetricFamily(
            "histopath_probability_drift",
            "Population stability index of the probabilities, last week versus the 90 days before",
            labels=["model"],
        )
        done = Analysis.objects.filter(state=State.DONE, model_version__is_active=True).exclude(
            verdict=Verdict.OUT_OF_DOMAIN
        )
        after, from_ = now - DRIFT_NOW, now - DRIFT_NOW - DRIFT_BEFORE
        recent = np.array(done.filter(finished_at__gte=after).values_list("probability", flat=True), dtype=float)
        before = np.array(
            done.filter(finished_at__lt=after, finished_at__gte=from_).values_list("probability", flat=True),
            dtype=float,
        )
        if min(len(recent), len(before)) >= DRIFT_MIN_RESULTS:
            sha256 = done.values_list("model_version__sha256", flat=True)[0]
            drift.add_metric([sha256[:12]], population_stability(before, recent))
        yield drift


@require_GET
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """Metrics for Prometheus. Needs ``Authorization: Bearer`` with METRICS_TOKEN; otherwise, or if it is unset, 404."""
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not settings.METRICS_TOKEN or not hmac.compare_digest(given.encode(), settings.METRICS_TOKEN.encode()):
        raise Http404
    work = CollectorRegistry(auto_describe=False)
    work.register(Work())
    requests = REQUESTS
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        requests = CollectorRegistry()
        multiprocess.MultiProcessCollector(requests)  # type: ignore[no-untyped-call]  # prometheus_client is not typed throughout
    return HttpResponse(generate_latest(requests) + generate_latest(work), content_type=CONTENT_TYPE_LATEST)
