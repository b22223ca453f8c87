"""Preferences. Sign-in, passwords, e-mail addresses and two-factor authentication are allauth's."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from cases import audit
from cases.models import AuditEvent
from cases.web.forms import PreferencesForm
from cases.web.views.access import SignedInRequest, login_required


@login_required
@require_POST
def hide_hints(request: SignedInRequest) -> HttpResponse:
    """Hide the first steps. They can be shown again in the preferences."""
    request.user.show_hints = False
    request.user.save(update_fields=["show_hints"])
    return redirect("cases:history")


@login_required
def preferences(request: SignedInRequest) -> HttpResponse:
    """Name, theme, default magnification, time zone."""
    form = PreferencesForm(request.POST or None, instance=request.user)
    if request.method == "POST" and form.is_valid():
        form.save(commit=False).save(update_fields=form.changed_data)
        if {"first_name", "last_name"} & set(form.changed_data):
            audit.record(AuditEvent.Kind.ACCOUNT, actor=request.user, detail="Name changed")
        messages.success(request, "Preferences saved.")
        return redirect("cases:preferences")
    status = 400 if form.errors else 200
    return render(request, "cases/preferences.html", {"form": form}, status=status)
