"""Addresses of the portal."""

from django.urls import path

from .views import account, case, slide

app_name = "cases"
urlpatterns = [
    path("", case.home, name="home"),
    path("cases/", case.history, name="history"),
    path("cases/new/", case.new, name="new"),
    path("cases/try/", case.try_it, name="try"),
    path("cases/<uuid:pk>/", case.case, name="case"),
    path("cases/<uuid:pk>/edit/", case.edit, name="edit"),
    path("cases/<uuid:pk>/delete/", case.delete, name="delete"),
    path("cases/<uuid:pk>/slides/", case.add_slides, name="add_slides"),
    path("cases/<uuid:pk>/progress/", case.progress, name="progress"),
    path("cases/<uuid:pk>/rerun/", case.rerun, name="rerun"),
    path("cases/<uuid:pk>/review/", case.review, name="review"),
    path("slides/<uuid:pk>/", slide.slide, name="slide"),
    path("slides/<uuid:pk>/image.png", slide.image, name="image"),
    path("slides/<uuid:pk>/thumbnail.jpg", slide.thumbnail, name="thumbnail"),
    path("slides/<uuid:pk>/map.png", slide.patch_map, name="map"),
    path("slides/<uuid:pk>/rerun/", slide.rerun, name="slide_rerun"),
    path("slides/<uuid:pk>/delete/", slide.delete, name="slide_delete"),
    path("accounts/preferences/", account.preferences, name="preferences"),
]
