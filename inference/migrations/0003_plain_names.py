from django.db import migrations


class Migration(migrations.Migration):
    """The model under a name that says what it holds; no row changes."""

    dependencies = [("inference", "0002_fair_turns")]

    operations = [migrations.RenameModel("Lane", "UserQueueState")]
