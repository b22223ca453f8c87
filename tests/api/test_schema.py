"""The OpenAPI document, the page that shows it, and the typed client beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import types
import typing
from typing import Any

import pytest
from django.test import Client
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from inference.cli import client
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def schema() -> Any:
    GENERATOR_STATS.reset()
    document = SchemaGenerator().get_schema(request=None, public=True)
    assert not GENERATOR_STATS, "drf-spectacular had to guess"
    return document


def test_the_document_is_valid_openapi(schema: Any) -> None:
    validate_schema(schema)


def test_every_operation_is_described_and_may_answer_with_a_problem(schema: Any) -> None:
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            assert operation.get("summary"), (method, path)
            assert "default" in operation["responses"], (method, path)
    names = [operation["operationId"] for item in schema["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))


TYPES = {
    str: {"string"},
    int: {"integer"},
    float: {"number"},
    bool: {"boolean"},
}


def matches(annotation: Any, described: dict[str, Any], components: dict[str, Any]) -> bool:
    """Whether a type of the client says what the document says."""
    described = resolve(described, components)
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        inner = [one for one in typing.get_args(annotation) if one is not type(None)]
        return bool(described.get("nullable")) and matches(inner[0], {**described, "nullable": False}, components)
    if described.get("nullable"):
        return False
    if origin is typing.Literal:
        return set(typing.get_args(annotation)) == set(described["enum"])
    if origin is list:
        return described["type"] == "array" and matches(typing.get_args(annotation)[0], described["items"], components)
    if typing.is_typeddict(annotation):
        return described["type"] == "object" and same_fields(annotation, described, components)
    return described["type"] in TYPES[annotation]


def resolve(described: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    if "allOf" in described:
        (inner,) = described["allOf"]
        return {**resolve(inner, components), **{k: v for k, v in described.items() if k != "allOf"}}
    if "$ref" in described:
        return dict(components[described["$ref"].rsplit("/", 1)[1]])
    return described


def same_fields(declared: Any, described: dict[str, Any], components: dict[str, Any]) -> bool:
    hints = typing.get_type_hints(declared)
    assert set(hints) == set(described["properties"]) == set(described["required"]), declared
    for name, annotation in hints.items():
        assert matches(annotation, described["properties"][name], components), (declared, name)
    return True


@pytest.mark.parametrize(
    ("declared", "component"),
    [
        (client.Single, "SingleOut"),
        (client.Folder, "FolderOut"),
        (client.Pending, "PendingOut"),
        (client.Patches, "PatchesOut"),
    ],
)
def test_the_clients_types_are_those_of_the_document(schema: Any, declared: Any, component: str) -> None:
    components = schema["components"]["schemas"]
    assert same_fields(declared, components[component], components)


@pytest.mark.django_db
def test_the_page_brings_everything_itself_and_keeps_the_strict_policy() -> None:
    browser = Client()
    page = browser.get("/docs")
    assert page.status_code == 200
    text = page.content.decode()
    assert "http://" not in text
    assert "https://" not in text
    assert "<style" not in text
    policy = page["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "script-src 'self'" in policy
    script = browser.get("/docs?script=")
    assert script["Content-Type"].startswith("application/javascript")


def test_other_origins_may_call_only_where_they_are_configured() -> None:
    code = """
import django; django.setup()
from django.test import Client
for path, origin in (("/health/live", "viewer"), ("/health/live", "evil"), ("/nowhere/", "viewer")):
    answer = Client().get(path, headers={"Origin": f"https://{origin}.example"})
    print(answer.headers.get("Access-Control-Allow-Origin"))
"""
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "CORS_ALLOWED_ORIGINS": "https://viewer.example"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["https://viewer.example", "None", "None"]
