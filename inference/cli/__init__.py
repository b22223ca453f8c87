"""The ``predict`` command and the API client. Without Django: ``manage.py predict`` only calls :mod:`main`."""
