from django.db import migrations, models
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce

COUNTS = {"malignant_count": "malignant", "indeterminate_count": "indeterminate", "rejected_count": "out_of_domain"}


def count(apps, schema_editor):
    """From the current analyses, as ``cases.services.refresh`` does it from now on."""
    analyses = apps.get_model("inference", "Analysis").objects.filter(
        slide__case=OuterRef("pk"), is_current=True, state="done"
    )

    def number(verdict):
        found = analyses.filter(verdict=verdict).order_by().values("slide__case").annotate(n=Count("pk")).values("n")
        return Coalesce(Subquery(found), 0)

    apps.get_model("cases", "Case").objects.exclude(verdict="").update(
        **{field: number(verdict) for field, verdict in COUNTS.items()}
    )


class Migration(migrations.Migration):
    """How many images of a case have which result, so that a review can be recommended without a query."""

    dependencies = [("cases", "0014_plain_names"), ("inference", "0003_plain_names")]

    operations = [
        *(
            migrations.AddField("case", name, models.PositiveIntegerField(default=0, editable=False))
            for name in COUNTS
        ),
        migrations.RunPython(count, migrations.RunPython.noop),
    ]
