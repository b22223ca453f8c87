from django.apps import AppConfig


class HistopathConfig(AppConfig):
    name = "histopath"

    def ready(self) -> None:
        from . import checks  # noqa: F401  registers the system checks
