"""The administration: review and operation by staff."""

from django.contrib import admin

from . import cases, people, records  # noqa: F401  they register themselves

admin.site.site_header = "histopath administration"
admin.site.site_title = "histopath"
admin.site.index_title = "Review and operation"
