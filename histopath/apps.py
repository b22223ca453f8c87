from django.apps import AppConfig
from django.contrib.staticfiles.apps import StaticFilesConfig


class HistopathConfig(AppConfig):
    name = "histopath"

    def ready(self) -> None:
        from . import checks  # noqa: F401  registers the system checks


class StaticFiles(StaticFilesConfig):
    """Skips static files of packages that no page uses: collecting and compressing them would take a minute."""

    ignore_patterns = [*StaticFilesConfig.ignore_patterns, "redoc", "rest_framework", "openseadragon.js*"]
