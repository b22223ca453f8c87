from django.db import migrations, models


class Migration(migrations.Migration):
    """Models under the field's standard names; no row changes."""

    dependencies = [("cases", "0013_own_time_zone")]

    operations = [
        migrations.RenameModel("Identity", "Pseudonym"),
        migrations.RenameModel("Seal", "AuditCheckpoint"),
        migrations.RenameModel("Event", "AuditEvent"),
        migrations.RenameModel("Removal", "PendingFileDeletion"),
        migrations.RemoveIndex("auditevent", "event_unsealed"),
        migrations.RenameField("auditevent", "seal", "checkpoint"),
        migrations.AddIndex(
            "auditevent",
            models.Index(fields=["id"], condition=models.Q(checkpoint=None), name="event_unsealed"),
        ),
    ]
