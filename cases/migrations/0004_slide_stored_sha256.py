from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("cases", "0003_api_tokens_submissions")]

    operations = [
        migrations.AddField(
            model_name="slide",
            name="stored_sha256",
            field=models.CharField(
                blank=True, default="", editable=False, max_length=64, verbose_name="SHA-256 of the stored file"
            ),
            preserve_default=False,
        ),
    ]
