from django.apps import AppConfig
from django.db.models.signals import post_migrate


class CasesConfig(AppConfig):
    name = "cases"
    verbose_name = "Cases"

    def ready(self) -> None:
        from cases import audit, services
        from cases.accounts.permissions import create_reviewers
        from cases.audit import access_log
        from cases.images import deletion
        from cases.services import abandoned_uploads, privacy
        from inference.jobs.signals import analysis_ended, kept_up

        analysis_ended.connect(services.on_analysis_ended, dispatch_uid="cases.refresh")
        kept_up.connect(audit.upkeep, dispatch_uid="cases.audit")
        kept_up.connect(abandoned_uploads.upkeep, dispatch_uid="cases.abandoned_uploads")
        kept_up.connect(privacy.upkeep, dispatch_uid="cases.privacy")
        kept_up.connect(deletion.upkeep, dispatch_uid="cases.deletion")
        access_log.connect()
        post_migrate.connect(create_reviewers, sender=self)
