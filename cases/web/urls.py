"""URLs of the pages."""

from django.urls import path

from cases.web.views import account, case, data, history, pages, progress, report, slide, statistics, tokens, trail

app_name = "cases"
urlpatterns = [
    path("", case.home, name="home"),
    path("cases/", history.history, name="history"),
    path("cases/bulk/", history.bulk, name="bulk"),
    path("cases/export.<str:form>", history.export_history, name="export_history"),
    path("cases/new/", case.new, name="new"),
    path("cases/try/", case.try_it, name="try"),
    path("cases/<uuid:pk>/", case.case, name="case"),
    path("cases/<uuid:pk>/edit/", case.edit, name="edit"),
    path("cases/<uuid:pk>/delete/", case.delete, name="delete"),
    path("cases/<uuid:pk>/slides/", case.add_slides, name="add_slides"),
    path("cases/<uuid:pk>/progress/", progress.progress, name="progress"),
    path("cases/<uuid:pk>/rerun/", case.rerun, name="rerun"),
    path("cases/<uuid:pk>/review/", case.review, name="review"),
    path("cases/<uuid:pk>/export.<str:form>", case.export_case, name="export"),
    path("cases/<uuid:pk>/trail/", trail.trail, name="trail"),
    path("cases/<uuid:pk>/trail.<str:form>", trail.export, name="trail_export"),
    path("cases/<uuid:pk>/report.pdf", report.report, name="report"),
    path("reports/<uuid:pk>/", report.verify, name="verify"),
    path("slides/<uuid:pk>/", slide.slide, name="slide"),
    path("slides/<uuid:pk>/image.png", slide.image, name="image"),
    path("slides/<uuid:pk>/thumbnail.jpg", slide.thumbnail, name="thumbnail"),
    path("slides/<uuid:pk>/map.png", slide.patch_map, name="map"),
    path("slides/<uuid:pk>/view", slide.view, name="view"),
    path("slides/<uuid:pk>/tiles.json", slide.tiles, name="tiles"),
    path("slides/<uuid:pk>/tiles/<int:level>/<int:column>_<int:row>.jpg", slide.tile, name="tile"),
    path("slides/<uuid:pk>/activation.png", slide.activation_map, name="activation"),
    path("slides/<uuid:pk>/patches/<int:index>.png", slide.patch, name="patch"),
    path("slides/<uuid:pk>/rerun/", slide.rerun, name="slide_rerun"),
    path("slides/<uuid:pk>/delete/", slide.delete, name="slide_delete"),
    path("statistics/", statistics.statistics, name="statistics"),
    path("help/", pages.help_page, name="help"),
    path("models/<uuid:pk>/", pages.model_card, name="model"),
    path("status/", pages.status, name="status"),
    path("accounts/theme/", pages.theme, name="theme"),
    path("accounts/tokens/", tokens.tokens, name="tokens"),
    path("accounts/tokens/<uuid:pk>/revoke/", tokens.revoke, name="token_revoke"),
    path("accounts/data/", data.data, name="data"),
    path("accounts/data/export/", data.export, name="data_export"),
    path("accounts/hints/", account.hide_hints, name="hide_hints"),
    path("accounts/preferences/", account.preferences, name="preferences"),
]
