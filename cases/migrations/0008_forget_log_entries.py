from django.db import migrations
from django.db.models import Q


def forget(apps, schema_editor):
    """As cases.audit does with new entries: only these say by name what was changed."""
    named = Q(pk__in=[])
    for app, model in (("cases", "case"), ("cases", "slide"), ("cases", "user"), ("auth", "group"),
                       ("inference", "modelversion")):
        named |= Q(content_type__app_label=app, content_type__model=model)
    apps.get_model("admin", "LogEntry").objects.exclude(named).update(object_repr="")


class Migration(migrations.Migration):

    dependencies = [
        ("cases", "0007_review_was_blind"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.RunPython(forget, migrations.RunPython.noop),
    ]
