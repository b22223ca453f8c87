"""What the OpenAPI document says beyond the views themselves."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from .errors import CODES, CONTENT_TYPE


class Schema(AutoSchema):
    """drf-spectacular's, with ids that read well in generated clients."""


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # drf-spectacular registers subclasses
    target_class = "cases.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Token ` followed by an API token of your account page, or of `POST /api/v1/sign-in`.",
        }


PROBLEM = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "`urn:histopath:problem:` and the code."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": sorted(CODES), "description": "Stable; programs decide by it."},
        "detail": {"type": "string", "description": "A sentence for a person."},
        "fields": {
            "type": "array",
            "description": "Values that were refused.",
            "items": {
                "type": "object",
                "required": ["field", "code", "detail"],
                "properties": {name: {"type": "string"} for name in ("field", "code", "detail")},
            },
        },
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/FileError"}},
        "limit": {"type": "integer", "description": "The limit that was passed."},
        "unit": {"type": "string", "enum": ["files", "bytes"]},
    },
}


CODED_REASONS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["code", "detail"],
        "properties": {"code": {"type": "string"}, "detail": {"type": "string"}},
    },
}
HEALTH = {
    "type": "object",
    "required": ["status", "model_loaded", "timestamp", "checks", "problems", "warnings"],
    "properties": {
        "status": {"type": "string", "enum": ["healthy", "unhealthy"]},
        "model_loaded": {"type": "boolean", "description": "Whether an image could be analysed now."},
        "timestamp": {"type": "string", "description": "UTC, without a zone."},
        "checks": {
            "type": "object",
            "required": ["database", "worker", "model"],
            "properties": {name: {"type": "boolean"} for name in ("database", "worker", "model")},
        },
        "problems": CODED_REASONS,
        "warnings": {**CODED_REASONS, "description": "What makes work slower; the status does not change."},
    },
}
LIVE = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string", "enum": ["alive"]}}}


def add_health(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Postprocessing hook: the health addresses, which are no views of REST framework."""
    result["components"]["schemas"]["Health"] = HEALTH
    health = {"schema": {"$ref": "#/components/schemas/Health"}}
    result["paths"]["/health"] = {
        "get": {
            "operationId": "health",
            "summary": "Can an image be analysed now?",
            "tags": ["About"],
            "security": [],
            "responses": {
                "200": {"description": "Yes.", "content": {"application/json": health}},
                "503": {"description": "No; `problems` says why.", "content": {"application/json": health}},
            },
        }
    }
    result["paths"]["/health/live"] = {
        "get": {
            "operationId": "health_live",
            "summary": "Does this process answer?",
            "tags": ["About"],
            "security": [],
            "responses": {"200": {"description": "Yes.", "content": {"application/json": {"schema": LIVE}}}},
        }
    }
    return result


def add_problems(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Postprocessing hook: every operation may answer with a problem, and a list in a query is not empty."""
    result["components"].setdefault("schemas", {})["Problem"] = PROBLEM
    answer = {
        "description": "What went wrong; `code` says it for programs.",
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for path in result["paths"].values():
        for operation in path.values():
            operation["responses"].setdefault("default", answer)
            for parameter in operation.get("parameters", []):
                if parameter["schema"].get("type") == "array":
                    parameter["schema"].setdefault("minItems", 1)
    return result
