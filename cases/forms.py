"""What people may type in, and how it is checked."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from inference.engine.grid import MAX_OVERLAP

from .models import Case, Reading, User

OVERLAPS = [(0.0, "None (fastest)"), (0.25, "25 %"), (0.5, "50 % (finer map, four times slower)")]


class ImagesInput(forms.ClearableFileInput):
    allow_multiple_selected = True


class ImagesField(forms.FileField):
    """Many files at once. What is inside each is checked when it is stored, so one bad file does not
    spoil the form."""

    widget = ImagesInput

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile]:
        files = [file for file in (data or []) if file]
        if not files and self.required:
            raise forms.ValidationError("Choose at least one image.", code="required")
        if len(files) > settings.UPLOAD_MAX_FILES:
            raise forms.ValidationError(
                f"At most {settings.UPLOAD_MAX_FILES} images at once; add the rest to the case afterwards.",
                code="too_many",
            )
        return files


class CaseForm(forms.ModelForm):
    overlap = forms.TypedChoiceField(choices=OVERLAPS, coerce=float, required=False, empty_value=0.0)

    class Meta:
        model = Case
        fields = ["title", "patient", "magnification", "overlap", "notes"]
        widgets = {"notes": forms.Textarea(attrs={"rows": 4})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        current = self.instance.overlap if self.instance.pk else settings.ANALYSIS_OVERLAP
        choices = dict(OVERLAPS)
        if current not in choices and 0 <= current <= MAX_OVERLAP:
            choices[current] = f"{current:.0%}"
        self.fields["overlap"].choices = sorted(choices.items())  # type: ignore[attr-defined]
        self.fields["overlap"].initial = current


class NewCaseForm(CaseForm):
    """A new case with its first images. Without a title the first file's name serves."""

    images = ImagesField(required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["title"].required = True


class ImagesForm(forms.Form):
    images = ImagesField()


class ReviewForm(forms.Form):
    reading = forms.ChoiceField(choices=Reading.choices, widget=forms.RadioSelect)
    subtype = forms.CharField(max_length=60, required=False)
    comment = forms.CharField(max_length=5000, required=False, widget=forms.Textarea(attrs={"rows": 3}))


class PreferencesForm(forms.ModelForm):
    class Meta:
        model = User
        fields = ["first_name", "last_name", "theme", "default_magnification", "time_zone"]
