"""Entry point of gunicorn."""

import os

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "histopath.settings")

if not settings.HAS_SECRET_KEY:
    raise ImproperlyConfigured("SECRET_KEY is missing. Set it to at least 40 random characters; see the README.")

application = get_wsgi_application()
