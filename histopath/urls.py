"""All addresses. Pages live in cases, prediction and resources for programs under api."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from . import health, metrics

handler500 = "histopath.errors.failed"

urlpatterns = [
    path("", include("cases.urls")),
    path("", include("cases.api.urls")),
    path("accounts/", include("allauth.urls")),
    path("health", health.ready, name="health"),
    path("health/live", health.live, name="health-live"),
    path("metrics", metrics.metrics, name="metrics"),
    path(settings.ADMIN_PATH, admin.site.urls),
]
