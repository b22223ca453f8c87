"""URLs: pages (``cases.web``), API (``cases.api``), accounts, health, metrics and administration."""

from allauth.account.decorators import secure_admin_login
from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from cases.monitoring import health, metrics

# The admin's own sign-in page has neither rate limit nor second factor.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]  # as allauth documents

handler429 = "cases.web.errors.too_often"
handler500 = "cases.web.errors.failed"

urlpatterns = [
    path("", include("cases.web.urls")),
    path("", include("cases.api.urls")),
    path("accounts/", include("allauth.urls")),
    path("health", health.ready, name="health"),
    path("health/live", health.live, name="health-live"),
    path("metrics", metrics.metrics, name="metrics"),
    # The same holds for its password page.
    path(
        f"{settings.ADMIN_PATH}password_change/",
        RedirectView.as_view(pattern_name="account_change_password"),
        name="admin-password",
    ),
    path(settings.ADMIN_PATH, admin.site.urls),
]
