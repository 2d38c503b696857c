"""The OpenAPI document, made from the operations and their models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from mcp_server.rest.models import Problem
from mcp_server.rest.operations import Operation
from mcp_server.settings import ServerSettings, version

_REFERENCE = "#/components/schemas/{model}"
_ABOUT = """\
Long-term memory over one PostgreSQL: the same rows that MCP clients, LangGraph and LangChain use.

A token belongs to one user, who may leave `user_id` out; a service's token names the user in each call. Stored text is
data: show it to a model as such.
"""

_REASONS = {
    400: "The request is no HTTP request with JSON in it.",
    401: "There is no token, or one that is not valid here.",
    403: "The token does not allow this.",
    404: "There is nothing of that id, or it is somebody else's.",
    409: "Others kept writing the same thing: try again.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    421: "The request names another host.",
    422: "The request is not as described here; `details` says where.",
    429: "Too many requests: `Retry-After` says when to try again.",
    500: "The server failed; its log says why.",
    503: "The database cannot be reached: `Retry-After` says when to try again.",
    507: "The database has no room left.",
}
_WITH_RETRY = {429, 503}
_ALWAYS = (400, 403, 421, 422, 500, 503)


def document(operations: Sequence[Operation], settings: ServerSettings) -> dict[str, Any]:
    """The document, as a client sees the server that these settings make."""
    paths: dict[str, Any] = {}
    schemas = _schemas(operations)
    for operation in operations:
        described = _operation(operation, settings, schemas)
        paths.setdefault(f"/api/v1{operation.path}", {})[operation.method.lower()] = described
    components: dict[str, Any] = {"schemas": {name: schemas[name] for name in sorted(schemas)}}
    result: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "memory-plugin", "version": version(), "description": _ABOUT},
        "paths": paths,
        "components": components,
    }
    if settings.public_url is not None:
        result["servers"] = [{"url": settings.public_url}]
    if settings.authenticated:
        components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        result["security"] = [{"bearer": []}]
    return result


def _schemas(operations: Sequence[Operation]) -> dict[str, Any]:
    used: dict[type[BaseModel], None] = {Problem: None}
    for operation in operations:
        for model in (operation.where, operation.query, operation.body, operation.answer):
            if model is not None:
                used[model] = None
    answers = {operation.answer for operation in operations} | {Problem}
    _, found = models_json_schema(
        [(model, "serialization" if model in answers else "validation") for model in used], ref_template=_REFERENCE
    )
    definitions: dict[str, Any] = found["$defs"]
    return definitions


def _operation(operation: Operation, settings: ServerSettings, schemas: dict[str, Any]) -> dict[str, Any]:
    statuses = {*_ALWAYS, *operation.failures}
    if settings.authenticated:
        statuses.add(401)
    if settings.authenticated or settings.rate_limit:
        statuses.add(429)
    if operation.body is not None:
        statuses |= {413, 415, 507}
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": f"{(operation.run.__doc__ or '').strip()} The token needs the scope `{operation.scope}`.",
        "responses": {
            "200": {"description": "It is done.", "content": _json(operation.answer)},
            **{str(status): _failure(status) for status in sorted(statuses)},
        },
    }
    parameters = [
        *_parameters(operation.where, "path", schemas),
        *_parameters(operation.query, "query", schemas),
    ]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _json(operation.body)}
    return described


def _failure(status: int) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": _REASONS[status], "content": _json(Problem)}
    if status in _WITH_RETRY:
        answer["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "seconds"}}
    return answer


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(model=model.__name__)}}}


def _parameters(model: type[BaseModel] | None, place: str, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    """The fields of a model, each a parameter; the model itself is no schema of the document then."""
    if model is None:
        return []
    schema = schemas[model.__name__]
    required = schema.get("required", ())
    found = []
    for name, field in schema["properties"].items():
        described = {key: value for key, value in field.items() if key not in {"title", "description"}}
        choices = [each for each in described.get("anyOf", ()) if each != {"type": "null"}]
        if len(choices) == 1:  # what is left out is null: there is no other way to say so in a query
            described = choices[0]
        parameter: dict[str, Any] = {"name": name, "in": place, "required": name in required, "schema": described}
        if text := field.get("description") or described.pop("description", None):
            parameter["description"] = text
        found.append(parameter)
    return found
