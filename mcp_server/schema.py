"""JSON schemas without what a model does not need: they are read again in every conversation."""

from __future__ import annotations

from typing import Any

from mcp_server.render import DEFAULT_TOKENS

_UNSAID = {"title", "$defs"}
_OBVIOUS = (None, False, DEFAULT_TOKENS)
"""Defaults that say nothing: left out, a model leaves the argument out too."""

_UNSAID_OF_ANSWERS = {*_UNSAID, "default", "enum", "required"}

_IN_EVERY_ANSWER = "notice"
"""A sentence that is read where it stands: no schema has to announce it."""

_TEXT = {"type": "string"}
"""What a field of an entry is, unless its schema says otherwise."""


def of_arguments(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without titles, null alternatives and null defaults.

    An optional parameter is one that is not required: its null is accepted, but not advertised.
    """
    return _compact(schema, schema.get("$defs", {}), _UNSAID, root=True)


def of_answer(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an answer, which nobody has to write: names and types."""
    small = _compact(schema, schema.get("$defs", {}), _UNSAID_OF_ANSWERS, root=True)
    properties = small.get("properties", {})
    properties.pop(_IN_EVERY_ANSWER, None)
    for part in properties.values():
        for name, entry in part.get("items", {}).get("properties", {}).items():
            if entry == _TEXT:
                part["items"]["properties"][name] = {}
    return small


def _compact(schema: dict[str, Any], definitions: dict[str, Any], unsaid: set[str], *, root: bool) -> dict[str, Any]:
    if "$ref" in schema:
        return _compact(definitions[schema["$ref"].rpartition("/")[2]], definitions, unsaid, root=True)
    kept: dict[str, Any] = {}
    for name, value in schema.items():
        # the description of a model is the docstring of its class, which is for us
        if name in unsaid or (name == "default" and value in _OBVIOUS) or (name == "description" and root):
            continue
        if name == "anyOf":
            choices = [choice for choice in value if choice != {"type": "null"}]
            small = [_compact(choice, definitions, unsaid, root=False) for choice in choices]
            kept.update(small[0] if len(small) == 1 else {"anyOf": small})
        elif name == "properties":
            kept[name] = {key: _compact(part, definitions, unsaid, root=False) for key, part in value.items()}
        elif name == "items":
            kept[name] = _compact(value, definitions, unsaid, root=False)
            # What has properties is an object. Enumerated words keep their type: some models' interfaces
            # refuse a list of tools without it.
            if "properties" in kept[name]:
                kept[name].pop("type", None)
        else:
            kept[name] = value
    return kept
