from django.apps import AppConfig
from django.db.models.signals import post_migrate


class CasesConfig(AppConfig):
    name = "cases"
    verbose_name = "Cases"

    def ready(self) -> None:
        from inference.signals import analysis_ended, kept_up

        from . import audit, reads, services
        from .accounts import create_reviewers

        analysis_ended.connect(services.on_analysis_ended, dispatch_uid="cases.refresh")
        kept_up.connect(audit.upkeep, dispatch_uid="cases.upkeep")
        reads.connect()
        post_migrate.connect(create_reviewers, sender=self)
