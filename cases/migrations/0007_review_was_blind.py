from django.db import migrations, models


def tell_which_were_blind(apps, schema_editor):
    """In blinded cases, every reading up to the second person's first."""
    Review = apps.get_model("cases", "Review")
    readers = {}
    for review in Review.objects.filter(case__is_blinded=True).order_by("created_at"):
        before = readers.setdefault(review.case_id, set())
        if len(before) < 2:
            before.add(review.author_id)
            Review.objects.filter(pk=review.pk).update(was_blind=True)


class Migration(migrations.Migration):

    dependencies = [
        ("cases", "0006_first_steps"),
    ]

    operations = [
        migrations.AddField(
            model_name="review",
            name="was_blind",
            field=models.BooleanField(
                default=False,
                editable=False,
                help_text="Other people's readings of the case were hidden when this one was signed.",
                verbose_name="signed blind",
            ),
        ),
        migrations.RunPython(tell_which_were_blind, migrations.RunPython.noop),
    ]
