"""Parts of the OpenAPI document that are not derived from views and serializers."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from .errors import CODES, CONTENT_TYPE


class Schema(AutoSchema):
    """drf-spectacular's schema; views choose their operation ids, which name the methods of generated clients."""


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # drf-spectacular registers subclasses
    target_class = "cases.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Token ` followed by an API token from your account page or from `POST /api/v1/sign-in`.",
        }


PROBLEM = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "`urn:histopath:problem:` and the code."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": sorted(CODES), "description": "Stable; for programs."},
        "detail": {"type": "string", "description": "The error in a sentence, for people."},
        "fields": {
            "type": "array",
            "description": "Missing or invalid values.",
            "items": {
                "type": "object",
                "required": ["field", "code", "detail"],
                "properties": {name: {"type": "string"} for name in ("field", "code", "detail")},
            },
        },
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/FileError"}},
        "limit": {"type": "integer", "description": "The limit that was exceeded."},
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
        "model_loaded": {"type": "boolean", "description": "Whether a model is active and usable."},
        "timestamp": {"type": "string", "description": "UTC, without a time zone suffix."},
        "checks": {
            "type": "object",
            "required": ["database", "worker", "model"],
            "properties": {name: {"type": "boolean"} for name in ("database", "worker", "model")},
        },
        "problems": CODED_REASONS,
        "warnings": {
            **CODED_REASONS,
            "description": "Conditions that slow down analyses; they do not change the status.",
        },
    },
}
LIVE = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string", "enum": ["alive"]}}}


def add_health(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Postprocessing hook: add the health endpoints, which are not REST framework views."""
    result["components"]["schemas"]["Health"] = HEALTH
    health = {"schema": {"$ref": "#/components/schemas/Health"}}
    result["paths"]["/health"] = {
        "get": {
            "operationId": "health",
            "summary": "Whether images can be analysed now",
            "tags": ["About"],
            "security": [],
            "responses": {
                "200": {"description": "Healthy.", "content": {"application/json": health}},
                "503": {"description": "Unhealthy; see `problems`.", "content": {"application/json": health}},
            },
        }
    }
    result["paths"]["/health/live"] = {
        "get": {
            "operationId": "health_live",
            "summary": "Whether this process responds",
            "tags": ["About"],
            "security": [],
            "responses": {"200": {"description": "Alive.", "content": {"application/json": {"schema": LIVE}}}},
        }
    }
    return result


def add_problems(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Postprocessing hook: add the error response to every operation, and a minimum length to list parameters."""
    result["components"].setdefault("schemas", {})["Problem"] = PROBLEM
    answer = {
        "description": "An error.",
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for path in result["paths"].values():
        for operation in path.values():
            operation["responses"].setdefault("default", answer)
            for parameter in operation.get("parameters", []):
                if parameter["schema"].get("type") == "array":
                    parameter["schema"].setdefault("minItems", 1)
    return result
