"""Django project: settings, URLs, system checks and generic infrastructure. No domain code."""

__version__ = "1.0.0"
