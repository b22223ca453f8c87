"""The project's settings with a throw-away place for files; the environment stays in charge of the rest."""

import os
import tempfile

_var = tempfile.mkdtemp(prefix="histopath-tests-")
os.environ.setdefault("VAR_DIR", _var)
os.environ["SECRET_KEY"] = "only-for-tests-" + "x" * 40
os.environ["DEBUG"] = "off"
os.environ["HTTPS"] = "off"
os.environ["ALLOWED_HOSTS"] = "localhost,127.0.0.1,testserver"

from histopath.settings import *  # noqa: E402, F403

# Empty, but there: WhiteNoise warns of a directory that is missing.
STATIC_ROOT = VAR / "static"  # noqa: F405
STATIC_ROOT.mkdir(exist_ok=True)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):  # noqa: F405
    # A file, so that a worker's threads share it as they do in production.
    DATABASES["default"]["TEST"] = {"NAME": str(VAR / "test.sqlite3")}  # noqa: F405
