from django.apps import AppConfig
from django.db.models.signals import post_migrate


class CasesConfig(AppConfig):
    name = "cases"
    verbose_name = "Cases"

    def ready(self) -> None:
        from inference.signals import analysis_ended, kept_up

        from . import audit, datarights, reads, receiving, removal, services
        from .accounts import create_reviewers

        analysis_ended.connect(services.on_analysis_ended, dispatch_uid="cases.refresh")
        kept_up.connect(audit.upkeep, dispatch_uid="cases.upkeep")
        kept_up.connect(receiving.upkeep, dispatch_uid="cases.submissions")
        kept_up.connect(datarights.upkeep, dispatch_uid="cases.purge")
        kept_up.connect(removal.upkeep, dispatch_uid="cases.removal")
        reads.connect()
        post_migrate.connect(create_reviewers, sender=self)
