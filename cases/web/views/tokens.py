"""A user's API tokens: list, create, revoke."""

from __future__ import annotations

import uuid

from allauth.account.decorators import reauthentication_required
from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from cases.accounts import tokens as kept
from cases.web.views.access import SignedInRequest, login_required


class TokenForm(forms.Form):
    name = forms.CharField(
        max_length=80, label="Name", help_text="What the token is for, such as the name of a program."
    )
    days = forms.TypedChoiceField(choices=kept.LIFETIMES, coerce=int, initial=kept.DEFAULT_DAYS, label="Expires after")


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@reauthentication_required(allow_get=True)  # a token outlives the session, so an unattended browser must not create one
def tokens(request: SignedInRequest) -> HttpResponse:
    """The user's tokens and a form for a new one, whose plain text is shown only in the response to the form."""
    form = TokenForm(request.POST or None)
    plain = ""
    if request.method == "POST" and form.is_valid():
        _, plain = kept.create(request.user, form.cleaned_data["name"], form.cleaned_data["days"])
        form = TokenForm()
    context = {"form": form, "plain": plain, "tokens": kept.of(request.user)}
    return render(request, "cases/tokens.html", context, status=400 if form.errors else 200)


@login_required
@require_POST
def revoke(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """Revoke a token at once."""
    if not kept.revoke(request.user, pk):
        raise Http404
    messages.success(request, "The token was revoked.")
    return redirect("cases:tokens")
