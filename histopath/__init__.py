"""The project's frame: settings, addresses, checks. Nothing of the domain."""

__version__ = "1.0.0"
