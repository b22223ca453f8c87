"""A person's own data: take it along, or have it deleted for good."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack

from allauth.account.adapter import get_adapter
from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.http import FileResponse, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.cache import cache_control
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET

from cases import audit
from cases.limits.concurrency import THREADS
from cases.limits.disk_space import require_space
from cases.models import AuditEvent, User
from cases.services import privacy
from cases.web.views.access import SignedInRequest, login_required


class HeldResponse(FileResponse):
    """A file, and what is held until it is sent."""

    held: ExitStack

    def close(self) -> None:
        super().close()
        self.held.close()


class EraseForm(forms.Form):
    """Asks for the password, since nothing brings the data back."""

    password = forms.CharField(
        label="Your password", widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}), strip=False
    )

    def __init__(self, request: SignedInRequest, data: QueryDict | None = None) -> None:
        super().__init__(data)
        self.request, self.user = request, request.user

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        # Wrong ones are counted and noted as at the sign-in.
        if not get_adapter(self.request).reauthenticate(self.user, password):
            raise forms.ValidationError("That is not your password.")
        others = User.objects.filter(is_superuser=True, is_active=True).exclude(pk=self.user.pk)
        if self.user.is_superuser and not others.exists():
            raise forms.ValidationError("You are the only administrator; appoint another one first.")
        return password


@sensitive_post_parameters()
@login_required
def data(request: SignedInRequest) -> HttpResponse:
    """The two buttons."""
    form = EraseForm(request, request.POST or None)
    if request.method == "POST" and form.is_valid():
        user = User.objects.get(pk=request.user.pk)
        logout(request)
        privacy.erase(user)
        messages.success(request, "Your account and everything in it were deleted.")
        return redirect("cases:home")
    return render(request, "cases/data.html", {"form": form}, status=400 if form.errors else 200)


@login_required
@require_GET
@cache_control(private=True, no_store=True)
def export(request: SignedInRequest) -> FileResponse:
    """Everything that is kept of this person, as ZIP."""
    with ExitStack() as held:
        held.enter_context(THREADS.hold(request.user.pk))
        require_space(privacy.export_size(request.user))
        audit.record(AuditEvent.Kind.EXPORTED, actor=request.user, detail="All of one's own data")
        out = held.enter_context(tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR))
        privacy.write_export(request.user, out)
        out.seek(0)
        answer = HeldResponse(out, as_attachment=True, filename="my-data.zip", content_type="application/zip")
        # It may be read slowly.
        answer.held = held.pop_all()
        return answer
