from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("cases", "0008_forget_log_entries"),
    ]

    operations = [
        migrations.AddField(
            model_name="report",
            name="form",
            field=models.PositiveSmallIntegerField(default=1, editable=False),
        ),
    ]
