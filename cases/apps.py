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
        from cases.services import abandoned_uploads, locking, retention
        from inference.jobs.signals import analysis_ended, analysis_ending, housekeeping

        analysis_ending.connect(locking.lock_case_of_analysis, dispatch_uid="cases.lock")
        analysis_ended.connect(services.on_analysis_ended, dispatch_uid="cases.refresh")
        housekeeping.connect(audit.housekeeping, dispatch_uid="cases.audit")
        housekeeping.connect(abandoned_uploads.housekeeping, dispatch_uid="cases.abandoned_uploads")
        housekeeping.connect(retention.housekeeping, dispatch_uid="cases.retention")
        housekeeping.connect(deletion.housekeeping, dispatch_uid="cases.deletion")
        access_log.connect()
        post_migrate.connect(create_reviewers, sender=self)
