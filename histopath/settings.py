"""Settings, read from the environment or from a file ``.env`` beside manage.py.

The README's configuration table explains each variable. The defaults are for production: the server needs a secret
to start, cookies are secure, HTTPS is enforced. ``make run`` writes a ``.env`` for local use.
"""

from __future__ import annotations

import os
import secrets
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from histopath import __version__, logging

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
env.read_env(BASE_DIR / ".env")

#: Settings that were renamed: the old names work until version 2.0, with a warning.
RENAMED = {
    "USER_OPEN_MAX": "MAX_PENDING_PER_USER",
    "QUEUE_MAX": "MAX_PENDING",
    "ADDRESS_DAYS": "IP_RETENTION_DAYS",
    "DECODERS": "DECODER_CONCURRENCY",
    "DISK_RESERVE": "MIN_FREE_DISK",
}
for _old, _new in RENAMED.items():
    if _old in os.environ:
        warnings.warn(f"The setting {_old} is now called {_new}; rename it.", FutureWarning, stacklevel=1)
        os.environ.setdefault(_new, os.environ[_old])

VERSION = __version__

# Environment
DEBUG = env.bool("DEBUG", default=False)
HTTPS = env.bool("HTTPS", default=not DEBUG)
VAR = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var")))
VAR.mkdir(parents=True, exist_ok=True)

SECRET_KEY = env.str("SECRET_KEY", default="")
#: Commands that neither serve pages nor sign anything work without a secret; see histopath/checks.py.
HAS_SECRET_KEY = bool(SECRET_KEY) or DEBUG
if not SECRET_KEY:
    SECRET_KEY = "development-only-" + "0" * 40 if DEBUG else secrets.token_urlsafe(50)
if len(SECRET_KEY) < 40 or (not DEBUG and SECRET_KEY.startswith(("development-only-", "django-insecure-"))):
    raise ImproperlyConfigured(
        "SECRET_KEY is too short or a published default. Set it to at least 40 random characters, for "
        "example from: python -c 'import secrets; print(secrets.token_urlsafe(50))'"
    )
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])

ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1"] if DEBUG else [])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
ADMIN_PATH = env.str("ADMIN_PATH", default="admin/").strip("/") + "/"
ROOT_URLCONF = "histopath.urls"
WSGI_APPLICATION = "histopath.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    # Before django_q, so that its qcluster command replaces django-q2's.
    "inference",
    "cases",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "whitenoise.runserver_nostatic",
    "histopath.apps.StaticFiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "rest_framework",
    "knox",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_q",
    "dbbackup",
    "histopath.apps.HistopathConfig",
]

MIDDLEWARE = [
    "histopath.logging.RequestMiddleware",
    "cases.monitoring.metrics.MetricsMiddleware",
    "cases.api.errors.ProblemMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "cases.web.middleware.TooLargeMiddleware",
    "cases.web.middleware.CharsetMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "cases.monitoring.health.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "histopath.headers.HeadersMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "cases.web.middleware.SessionActivityMiddleware",
    "cases.web.middleware.TimeZoneMiddleware",
    "cases.web.middleware.StillSignedInMiddleware",
    "cases.audit.access_log.AuditMiddleware",
    "cases.web.middleware.MethodMiddleware",
    "cases.web.middleware.BusyMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "cases.web.context_processors.site",
            ],
        },
    }
]

# Database
DATABASES = {"default": env.db("DATABASE_URL", default=f"sqlite:///{VAR / 'histopath.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # Web processes and workers share the file: with these options writers wait for each other instead of failing.
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
    }
else:
    DATABASES["default"].setdefault("CONN_MAX_AGE", 60)
    DATABASES["default"].setdefault("CONN_HEALTH_CHECKS", True)
if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    # Detects a lost connection in half a minute; the kernel's defaults take up to two hours.
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        **DATABASES["default"].get("OPTIONS", {}),
    }

CACHES = {"default": env.cache("CACHE_URL", default=f"filecache://{VAR / 'cache'}")}
_cache_options = CACHES["default"].setdefault("OPTIONS", {})
if "redis" in CACHES["default"]["BACKEND"].lower():
    # If Redis does not answer, a request fails within seconds instead of blocking its thread.
    _cache_options |= {"socket_timeout": 2, "socket_connect_timeout": 2}
else:
    # When the limit is reached (default 300), Django drops a third of the entries, among them failed sign-in counters.
    _cache_options.setdefault("MAX_ENTRIES", 5000)

# Files. Uploads are outside the static root and served only by views, which check permissions
MEDIA_ROOT = Path(env.str("MEDIA_ROOT", default=str(VAR / "media")))
MEDIA_URL = "/never-served/"
#: Internal nginx location of MEDIA_ROOT; if set, nginx sends the files (docs/operations.md).
ACCEL_PREFIX = env.str("ACCEL_PREFIX", default="").rstrip("/")
STATIC_URL = "static/"
STATIC_ROOT = Path(env.str("STATIC_ROOT", default=str(BASE_DIR / "staticfiles")))
#: Third-party scripts come from npm, pinned by package-lock.json; a system check reports missing ones.
SCRIPTS = [("vendor/openseadragon", BASE_DIR / "node_modules/openseadragon/build/openseadragon")]
STATICFILES_DIRS = [BASE_DIR / "static", *SCRIPTS]
SILENCED_SYSTEM_CHECKS = ["staticfiles.W004"]
STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage" if DEBUG else "histopath.staticfiles.Storage"
    },
}
#: A bucket instead of a folder, for several machines; boto3 reads the credentials from its usual places.
S3_BUCKET = env.str("S3_BUCKET", default="")
if S3_BUCKET:
    encryption = env.str("S3_ENCRYPTION", default="AES256")
    STORAGES["default"] = {
        "BACKEND": "histopath.storage.Storage",
        "OPTIONS": {
            "bucket_name": S3_BUCKET,
            "endpoint_url": env.str("S3_ENDPOINT_URL", default="") or None,
            "region_name": env.str("S3_REGION", default="") or None,
            "default_acl": None,
            "file_overwrite": False,
            "object_parameters": {"ServerSideEncryption": encryption} if encryption else {},
        },
    }

# Backups by django-dbbackup (docs/operations.md)
BACKUP_DIR = Path(env.str("BACKUP_DIR", default=str(VAR / "backups")))
STORAGES["dbbackup"] = {
    "BACKEND": "django.core.files.storage.FileSystemStorage",
    "OPTIONS": {"location": str(BACKUP_DIR)},
}
DBBACKUP_CLEANUP_KEEP = env.int("BACKUPS_KEPT", default=14)
DBBACKUP_SEND_EMAIL = False
if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    # Only the application's schema: extensions and other schemas belong to the server's administrator.
    DBBACKUP_CONNECTORS = {"default": {"SCHEMAS": ["public"], "PG_OPTIONS": ["--no-owner", "--no-privileges"]}}

WHITENOISE_KEEP_ONLY_HASHED_FILES = True
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = ["jpg", "jpeg", "png", "gz", "br", "woff", "woff2", "map", "txt"]
FILE_UPLOAD_PERMISSIONS = 0o600
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o700

# Upload limits, the same for pages and API
UPLOAD_MAX_BYTES = env.int("UPLOAD_MAX_BYTES", default=64 * 2**20)
UPLOAD_MAX_FILES = env.int("UPLOAD_MAX_FILES", default=200)
#: The cost of a case's page and report grows with the number of its images.
CASE_MAX_IMAGES = env.int("CASE_MAX_IMAGES", default=500)
UPLOAD_MAX_REQUEST_BYTES = env.int("UPLOAD_MAX_REQUEST_BYTES", default=512 * 2**20)
UPLOAD_MAX_PIXELS = env.int("UPLOAD_MAX_PIXELS", default=150_000_000)
DATA_UPLOAD_MAX_NUMBER_FILES = UPLOAD_MAX_FILES + 1
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 2**20
FILE_UPLOAD_TEMP_DIR = VAR / "incoming"
FILE_UPLOAD_TEMP_DIR.mkdir(exist_ok=True)
#: Backups are written here first; /tmp may be in memory and too small.
DBBACKUP_TMP_DIR = FILE_UPLOAD_TEMP_DIR
FILE_UPLOAD_HANDLERS = [
    "cases.images.intake.SizeLimitUploadHandler",
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "cases.images.intake.AnonymousTempUploadHandler",
]
#: Bytes of disk space that uploads leave free for the database.
MIN_FREE_DISK = env.int("MIN_FREE_DISK", default=256 * 2**20)
# Images that a web process decodes and reports that it draws at the same time, and the bytes and seconds that the
# sandboxed process may use for one image
DECODER_CONCURRENCY = env.int("DECODER_CONCURRENCY", default=2)
DECODER_MEMORY = env.int("DECODER_MEMORY", default=3 * 2**30)
DECODER_SECONDS = env.int("DECODER_SECONDS", default=60)

#: Days after its last use until a case is deleted; 0 keeps cases for ever.
RETENTION_DAYS = env.int("RETENTION_DAYS", default=0)
#: Days until network addresses are erased from the audit trail; 0 keeps them for ever.
IP_RETENTION_DAYS = env.int("IP_RETENTION_DAYS", default=180)

# Analysis
MODEL_DIR = Path(env.str("MODEL_DIR", default=str(BASE_DIR / "inference" / "weights")))
ANALYSIS_OVERLAP = env.float("ANALYSIS_OVERLAP", default=0.0)
ANALYSIS_DEVICE = env.str("ANALYSIS_DEVICE", default="auto")
ANALYSIS_THREADS = env.int("ANALYSIS_THREADS", default=0) or None
#: Seconds after which a lease that was not renewed expires.
ANALYSIS_LEASE = env.int("ANALYSIS_LEASE", default=30)
ANALYSIS_MAX_ATTEMPTS = 3
#: Seconds after its last heartbeat until a worker cluster counts as stopped.
WORKER_TIMEOUT = env.int("WORKER_TIMEOUT", default=20)

# Most queued and running analyses, overall and per user; above it requests are answered with 429
MAX_PENDING = env.int("MAX_PENDING", default=5000)
MAX_PENDING_PER_USER = env.int("MAX_PENDING_PER_USER", default=1000)

REDIS_URL = env.str("REDIS_URL", default="")
Q_CLUSTER = {
    "name": "histopath",
    "workers": env.int("Q_WORKERS", default=1),
    # A task works for a minute and then starts a new one; only a very large slide takes longer.
    "timeout": 7200,
    "retry": 7500,
    "max_attempts": 1,
    "ack_failures": True,
    "recycle": 100_000,
    "save_limit": 100,
    # The broker waits for messages itself; see inference/jobs/broker.py.
    "poll": 0,
    "guard_cycle": 1,
    "scheduler": False,
    "label": "Background tasks",
    **({"redis": REDIS_URL} if REDIS_URL else {"orm": "default", "broker_class": "inference.jobs.broker.WakingBroker"}),
}

# Accounts
AUTH_USER_MODEL = "cases.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
SIGNUP_OPEN = env.bool("SIGNUP_OPEN", default=True)
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "cases:history"
ACCOUNT_ADAPTER = "cases.accounts.adapters.AccountAdapter"
ACCOUNT_FORMS = {
    "login": "cases.accounts.forms.LoginForm",
    "change_password": "cases.accounts.forms.ChangePasswordForm",
    "reset_password": "cases.accounts.forms.ResetPasswordForm",
}
# Shown as the author of readings whose account was deleted.
ACCOUNT_USERNAME_BLACKLIST = ["former-user"]
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = env.str("EMAIL_VERIFICATION", default="none")
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_USERNAME_MIN_LENGTH = 3
ACCOUNT_LOGIN_ON_PASSWORD_RESET = False
# Account owners are notified of changes to their e-mail addresses, password and second factor.
ACCOUNT_EMAIL_NOTIFICATIONS = True
# A new e-mail address allows a password reset, so adding one needs the password and not just an open session.
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_RATE_LIMITS = {"login_failed": "10/5m/ip,5/5m/key"}
# Number of trusted proxies in front of the web server, whose X-Forwarded-For is used.
NUM_PROXIES = env.int("NUM_PROXIES", default=0)
MFA_FORMS = {
    "authenticate": "cases.accounts.forms.AuthenticateForm",
    "reauthenticate": "cases.accounts.forms.ReauthenticateForm",
}
MFA_ADAPTER = "cases.accounts.adapters.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_ISSUER = "histopath"
# Without e-mail verification nobody could enable two-factor authentication.
MFA_ALLOW_UNVERIFIED_EMAIL = ACCOUNT_EMAIL_VERIFICATION != "mandatory"
USERSESSIONS_TRACK_ACTIVITY = True
vars().update(env.email("EMAIL_URL", default="consolemail://"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="histopath@localhost")

# Browser security
SESSION_COOKIE_AGE = env.int("SESSION_COOKIE_AGE", default=12 * 3600)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_NAME = "__Host-session" if HTTPS else "sessionid"
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^health"]
SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", default=365 * 24 * 3600) if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_REFERRER_POLICY = "same-origin"
if env.bool("BEHIND_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "manifest-src": [SELF],
    }
}

# API
#: Threads of one web process; see cases/limits/concurrency.py for how many of them costly requests take.
WEB_THREADS = env.int("WEB_THREADS", default=16)
#: Seconds until a waiting prediction call answers 202, and the longest duration of a progress stream.
API_WAIT_SECONDS = env.float("API_WAIT_SECONDS", default=25.0)
API_STREAM_SECONDS = env.float("API_STREAM_SECONDS", default=900.0)
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "cases.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["cases.api.authentication.IsStillAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "cases.api.common.LenientNegotiation",
    "DEFAULT_PAGINATION_CLASS": "cases.api.common.Pages",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "cases.api.schema.Schema",
    "DEFAULT_THROTTLE_CLASSES": ["cases.api.common.AnonymousThrottle", "cases.api.common.AccountThrottle"],
    "DEFAULT_THROTTLE_RATES": {
        "anon": env.str("API_RATE_ANON", default="60/min"),
        "user": env.str("API_RATE_USER", default="600/min"),
        "predict": env.str("API_RATE_PREDICT", default="120/min"),
        "sign_in": env.str("API_RATE_SIGN_IN", default="10/min"),
    },
    "NUM_PROXIES": NUM_PROXIES,
    "EXCEPTION_HANDLER": "cases.api.errors.exception_handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
KNOX_TOKEN_MODEL = "cases.ApiToken"  # noqa: S105
REST_KNOX = {"AUTH_HEADER_PREFIX": "Token", "TOKEN_MODEL": KNOX_TOKEN_MODEL, "TOKEN_TTL": timedelta(days=90)}
# ApiToken replaces knox's own token table, which is not created.
MIGRATION_MODULES = {"knox": None}
SPECTACULAR_SETTINGS = {
    "TITLE": "histopath",
    "VERSION": __version__,
    "DESCRIPTION": "Classifies H&E images of breast tissue as benign or malignant. For research and education only; "
    "not for diagnosis.\n\nTo sign in, choose *Authorize* and enter `Token ` followed by a token from your account "
    "page. Send images to the *Predict* calls, or create a case and add slides to it. Errors are problem details "
    "(RFC 9457) with a stable `code`.",
    "TAGS": [
        {"name": "Predict", "description": "Send images, get results; compatible with clients of the earlier demo."},
        {"name": "Cases", "description": "Slides of one patient, and their joint result."},
        {"name": "Slides", "description": "Uploaded images."},
        {"name": "Analyses", "description": "Runs of one model version on one slide."},
        {"name": "Reviews", "description": "Signed readings of a case; never overwritten."},
        {"name": "Models", "description": "Model versions, with their training record and metrics."},
        {"name": "Account", "description": "Your account and its tokens."},
        {"name": "About", "description": "Entry points and health."},
    ],
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None, "persistAuthorization": False},
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "Verdict": "inference.models.Verdict",
        "AnalysisState": "inference.models.State",
        "Magnification": "cases.models.Magnification",
        "Reading": "cases.models.Reading",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "cases.api.schema.add_health",
        "cases.api.schema.add_problems",
    ],
}

# Origins whose pages may call the API
CORS_ALLOWED_ORIGINS = env.list("CORS_ALLOWED_ORIGINS", default=[])
if CORS_ALLOWED_ORIGINS:
    INSTALLED_APPS.append("corsheaders")
    MIDDLEWARE.insert(0, "corsheaders.middleware.CorsMiddleware")
    CORS_URLS_REGEX = r"^/(predict|api|health|schema)(/|$)"
    CORS_ALLOW_HEADERS = ("accept", "authorization", "content-type", "idempotency-key", "prefer")
    CORS_EXPOSE_HEADERS = ("Location", "Retry-After", "Preference-Applied", "Idempotent-Replayed")

# Language and time
LANGUAGE_CODE = "en-gb"
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_I18N = True
USE_TZ = True

#: Bearer token for /metrics; without it the endpoint answers 404.
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
LOGGING = logging.configuration(env.str("LOG_FORMAT", default="plain"), env.str("LOG_LEVEL", default="INFO"))

# If set, errors are reported to Sentry, without names, addresses, cookies and request bodies
SENTRY_DSN = env.str("SENTRY_DSN", default="")
if SENTRY_DSN:
    from histopath import errorreports

    errorreports.enable(SENTRY_DSN)
