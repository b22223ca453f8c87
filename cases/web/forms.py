"""Forms of the pages."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.utils import timezone

from cases.accounts.permissions import reviewers
from cases.models import Case, Reading, User
from inference.engine.grid import MAX_OVERLAP

OVERLAPS = [(0.0, "None (fastest)"), (0.25, "25 %"), (0.5, "50 % (finer map, about four times slower)")]


class ImagesInput(forms.ClearableFileInput):
    allow_multiple_selected = True


class ImagesField(forms.FileField):
    """Several files. Their contents are checked when they are stored, so one bad file does not invalidate the form."""

    widget = ImagesInput

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile]:
        files = [file for file in (data or []) if file]
        if not files and self.required:
            raise forms.ValidationError("Choose at least one image.", code="required")
        if len(files) > settings.UPLOAD_MAX_FILES:
            raise forms.ValidationError(
                f"Upload at most {settings.UPLOAD_MAX_FILES} images at a time; add the others to the case afterwards.",
                code="too_many",
            )
        return files


class CaseForm(forms.ModelForm):
    overlap = forms.TypedChoiceField(
        label="Patch overlap",
        choices=OVERLAPS,
        coerce=float,
        required=False,
        empty_value=0.0,  # type: ignore[arg-type]  # the stubs expect text
    )
    tags = forms.CharField(max_length=200, required=False, help_text="Separate tags with commas.")

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
        self.fields["overlap"].choices = sorted(choices.items())  # type: ignore[attr-defined]  # the stubs know no kind
        self.fields["overlap"].initial = current
        if self.instance.pk:
            self.fields["tags"].initial = ", ".join(tag.name for tag in self.instance.tags.all())

    def clean_tags(self) -> list[str]:
        names = dict.fromkeys(word.strip().lower() for word in self.cleaned_data["tags"].split(","))
        names.pop("", None)
        if any(len(name) > 30 for name in names):
            raise forms.ValidationError("A tag can have at most 30 characters.", code="too_long")
        return list(names)


class EditCaseForm(CaseForm):
    """Details of an existing case, with the second reader."""

    class Meta(CaseForm.Meta):
        fields = [*CaseForm.Meta.fields, "assigned_to", "is_blinded"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["overlap"].help_text = "A change takes effect the next time the case is analysed."
        assigned: forms.ModelChoiceField[User] = self.fields["assigned_to"]  # type: ignore[assignment]  # as above
        assigned.queryset = reviewers()
        assigned.label = "Second reader"
        assigned.empty_label = "Nobody"


class NewCaseForm(CaseForm):
    """A new case with its first images. The title defaults to the name of the first file."""

    images = ImagesField(required=False)

    def __init__(self, *args: Any, single: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.single = single
        self.fields["title"].required = False

    def clean_images(self) -> list[UploadedFile]:
        files: list[UploadedFile] = self.cleaned_data["images"]
        if self.single and len(files) > 1:
            raise forms.ValidationError("Choose one image, or switch to “Multiple images”.")
        return files

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not cleaned.get("title"):
            files = cleaned.get("images") or []
            stem = PurePath(files[0].name or "").stem if files else ""
            cleaned["title"] = stem[:120] or f"Case of {timezone.localdate():%d %B %Y}"
        return cleaned


class ImagesForm(forms.Form):
    images = ImagesField()


#: Terms of the *WHO Classification of Breast Tumours* (5th edition, 2019), suggested in this order.
SUBTYPES = [
    "Invasive breast carcinoma of no special type (NST)", "Invasive lobular carcinoma", "Tubular carcinoma",
    "Cribriform carcinoma", "Mucinous carcinoma", "Invasive micropapillary carcinoma", "Invasive papillary carcinoma",
    "Carcinoma with apocrine differentiation", "Metaplastic carcinoma", "Adenoid cystic carcinoma",
    "Secretory carcinoma", "Neuroendocrine carcinoma", "Microinvasive carcinoma", "Ductal carcinoma in situ (DCIS)",
    "Lobular carcinoma in situ (LCIS)", "Encapsulated papillary carcinoma", "Solid papillary carcinoma",
    "Paget disease of the breast", "Phyllodes tumour, malignant", "Phyllodes tumour, borderline",
    "Phyllodes tumour, benign", "Angiosarcoma", "Fibroadenoma", "Tubular adenoma", "Lactating adenoma",
    "Intraductal papilloma", "Adenosis", "Sclerosing adenosis", "Radial scar / complex sclerosing lesion",
    "Usual ductal hyperplasia", "Atypical ductal hyperplasia", "Columnar cell lesion", "Flat epithelial atypia",
    "Atypical lobular hyperplasia", "Hamartoma", "Pseudoangiomatous stromal hyperplasia",
]  # fmt: skip


class ReviewForm(forms.Form):
    """A reading. The page suggests :data:`SUBTYPES` and accepts any other."""

    subtypes = SUBTYPES

    reading = forms.ChoiceField(choices=Reading.choices, widget=forms.RadioSelect)
    subtype = forms.CharField(
        max_length=60, required=False, widget=forms.TextInput(attrs={"list": "subtypes", "autocomplete": "off"})
    )
    comment = forms.CharField(max_length=5000, required=False, widget=forms.Textarea(attrs={"rows": 3}))


class PreferencesForm(forms.ModelForm):
    class Meta:
        model = User
        fields = ["first_name", "last_name", "theme", "default_magnification", "time_zone", "show_hints"]
