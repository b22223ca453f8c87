"""A user's own data: export it, or delete the account."""

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
    """A file, with resources that are released when it has been sent."""

    held: ExitStack

    def close(self) -> None:
        super().close()
        self.held.close()


class EraseForm(forms.Form):
    """Asks for the password, because deletion cannot be undone."""

    password = forms.CharField(
        label="Your password", widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}), strip=False
    )

    def __init__(self, request: SignedInRequest, data: QueryDict | None = None) -> None:
        super().__init__(data)
        self.request, self.user = request, request.user

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        # Wrong passwords are counted and recorded as on the sign-in page.
        if not get_adapter(self.request).reauthenticate(self.user, password):
            raise forms.ValidationError("Wrong password.")
        others = User.objects.filter(is_superuser=True, is_active=True).exclude(pk=self.user.pk)
        if self.user.is_superuser and not others.exists():
            raise forms.ValidationError(
                "You are the only administrator. Give another account administrator rights first."
            )
        return password


@sensitive_post_parameters()
@login_required
def data(request: SignedInRequest) -> HttpResponse:
    """The page for exporting data and deleting the account."""
    form = EraseForm(request, request.POST or None)
    if request.method == "POST" and form.is_valid():
        user = User.objects.get(pk=request.user.pk)
        logout(request)
        privacy.erase(user)
        messages.success(request, "Your account and all its data were deleted.")
        return redirect("cases:home")
    return render(request, "cases/data.html", {"form": form}, status=400 if form.errors else 200)


@login_required
@require_GET
@cache_control(private=True, no_store=True)
def export(request: SignedInRequest) -> FileResponse:
    """All stored data of the user as a ZIP file."""
    with ExitStack() as held:
        held.enter_context(THREADS.hold(request.user.pk))
        require_space(privacy.export_size(request.user))
        audit.record(AuditEvent.Kind.EXPORTED, actor=request.user, detail="All data of the account")
        out = held.enter_context(tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR))
        privacy.write_export(request.user, out)
        out.seek(0)
        answer = HeldResponse(out, as_attachment=True, filename="my-data.zip", content_type="application/zip")
        # A slow download keeps its concurrency slot.
        answer.held = held.pop_all()
        return answer
