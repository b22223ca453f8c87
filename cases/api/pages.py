"""The index, the OpenAPI document, and the interactive documentation."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView


@extend_schema(tags=["About"], auth=[])
class Index(APIView):
    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(operation_id="index", summary="Addresses of the API", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        def at(name: str, *args: Any) -> str:
            return request.build_absolute_uri(reverse(name, args=args))

        return Response(
            {
                "name": "histopath",
                "version": settings.VERSION,
                "health": at("health"),
                "docs": at("docs"),
                "schema": at("schema"),
                "predict": {
                    "single": at("predict-single"),
                    "folder": at("predict-folder"),
                    "single_stream": at("predict-single-stream"),
                },
                "resources": {
                    "cases": at("api:cases"),
                    "analyses": at("api:analyses"),
                    "models": at("api:models"),
                    "me": at("api:me"),
                    "tokens": at("api:tokens"),
                    "sign_in": at("api:sign-in"),
                },
            }
        )


class Document(SpectacularAPIView):
    """The OpenAPI document; public."""


class Docs(SpectacularSwaggerSplitView):
    """Swagger UI from the package's own files. The split view works with the strict content security policy."""

    permission_classes = [AllowAny]
    url_name = "schema"
    title = "histopath API"
    template_name = "cases/api_docs.html"
