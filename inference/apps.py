from django.apps import AppConfig
from django.db.models.signals import post_migrate


class InferenceConfig(AppConfig):
    name = "inference"
    verbose_name = "Analyses"

    def ready(self) -> None:
        from inference import registry
        from inference.jobs import worker

        post_migrate.connect(registry.register_bundled, sender=self)
        worker.connect()
