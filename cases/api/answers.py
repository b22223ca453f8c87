"""Responses of prediction calls and result addresses: 200 with the result, or 202 with the address to poll."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

from django.http import Http404
from django.urls import reverse
from rest_framework.request import Request
from rest_framework.response import Response

from cases.limits.concurrency import THREADS
from cases.limits.quotas import CapacityExceeded
from cases.models import Case
from inference.models import Analysis, State

from . import results
from .authentication import person, recheck_authentication
from .submit import Submitted
from .waiting import seconds_to_wait, wait


def result_url(request: Request, submitted: Submitted, is_folder: bool) -> str:
    name, pk = ("case", submitted.case.pk) if is_folder else ("analysis", submitted.analyses[0].pk)
    return request.build_absolute_uri(reverse(f"api:{name}-result", args=[pk]))


def load(pk: uuid.UUID) -> Analysis:
    """An analysis with its slide and model version. Raises ``Analysis.DoesNotExist``."""
    return Analysis.with_model().select_related("slide").get(pk=pk)


def pending_body(request: Request, submitted: Submitted, is_folder: bool) -> dict[str, Any]:
    return {
        "id": str(submitted.case.pk if is_folder else submitted.analyses[0].pk),
        "case": str(submitted.case.pk),
        **results.progress(submitted.analyses),
        "result_url": result_url(request, submitted, is_folder),
        "errors": submitted.rejected,
    }


def pending(request: Request, submitted: Submitted, is_folder: bool) -> Response:
    """202: the analysis continues without the caller, who may ask again after a second."""
    body = pending_body(request, submitted, is_folder)
    headers = {"Location": body["result_url"], "Retry-After": "1"}
    if "respond-async" in request.headers.get("Prefer", "").lower():
        headers["Preference-Applied"] = "respond-async"
    if submitted.replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(body, status=202, headers=headers)


def waited(request: Request, submitted: Submitted, is_folder: bool) -> Response:
    """The result once it is available. 202 if the caller does not want to wait that long, or if the server is busy.

    Raises ``AuthenticationFailed`` if the token was revoked in the meantime."""
    ids = [analysis.pk for analysis in submitted.analyses]
    try:
        with THREADS.hold(person(request).pk, optional=True):
            finished = wait(ids, seconds_to_wait(request.headers.get("Prefer", "")))
    except CapacityExceeded:
        finished = wait(ids, 0.0)
    recheck_authentication(request)
    if not finished:
        return pending(request, _reloaded(submitted), is_folder)
    if is_folder:
        body = folder_result(request, submitted.case.pk, submitted.cached)
    else:
        body = single_result(request, ids[0], submitted.cached)
    return Response(body, headers={"Idempotent-Replayed": "true"} if submitted.replayed else None)


def _reloaded(submitted: Submitted) -> Submitted:
    analyses = Analysis.with_model().select_related("slide").filter(pk__in=[a.pk for a in submitted.analyses])
    return replace(submitted, analyses=list(analyses))


def single_result(request: Request, pk: uuid.UUID, cached: bool = False) -> dict[str, Any]:
    """Raises :class:`errors.Problem` if the analysis failed, 404 if it was deleted in the meantime."""
    try:
        analysis = load(pk)
    except Analysis.DoesNotExist as error:
        raise Http404 from error
    if analysis.state == State.FAILED:
        raise results.failure(analysis)
    return results.single(request, analysis, cached)


def folder_result(request: Request, pk: uuid.UUID, cached: bool = False) -> dict[str, Any]:
    case = Case.objects.filter(pk=pk).first()
    if case is None:
        raise Http404
    return results.folder(request, case, cached)
