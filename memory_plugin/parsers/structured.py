"""JSON, JSON lines and YAML: API descriptions and schemas by meaning, other data as an outline."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any

from memory_plugin.errors import DocumentError
from memory_plugin.parsers.base import Extract, ParseLimits, TextWriter, label, too_deep, too_large
from memory_plugin.parsers.code import parse_code
from memory_plugin.parsers.decoding import decode
from memory_plugin.parsers.detect import extension
from memory_plugin.parsers.json_places import Lines, member_lines, record_lines

Parts = Mapping[str, bytes]
_NO_PARTS: Parts = MappingProxyType({})

MAX_DEPTH = 100
_YAML_API = re.compile(r"^[\"']?(?:openapi|swagger|\$schema)[\"']?[ \t]*:", re.MULTILINE)
_INDENT = "  "


def parse_json(text: str, *, name: str, limits: ParseLimits, parts: Parts = _NO_PARTS) -> Extract:
    """A JSON file: an OpenAPI or Swagger description, a JSON Schema, or any other data.

    `parts` are the files that a description refers to, by the paths that lead to them from its folder.

    Raises:
        DocumentError: not JSON, or nested deeper than 100 levels.
        ContentTooLargeError: it has too many values.
    """
    _check_values(text, name, limits, ",[{")
    value = load_json(text, name)
    api = _parse_api(value, name, limits, lambda: member_lines(text), parts)
    return api or _parse_outline(value, text, name, limits)


def parse_yaml(text: str, *, name: str, limits: ParseLimits, parts: Parts = _NO_PARTS) -> Extract:
    """A YAML file: an API description or a schema, or else the source as it stands, comments and all.

    `parts` are as in `parse_json`.

    Raises:
        DocumentError: an API description that isn't valid YAML.
        UnsupportedError: PyYAML isn't installed, and the file is an API description.
    """
    if _YAML_API.search(text):
        from memory_plugin.parsers.yaml_events import load_yaml

        _check_values(text, name, limits, ",[{\n")
        value, lines = load_yaml(text, name, MAX_DEPTH)
        extract = _parse_api(value, name, limits, lambda: lines, parts)
        if extract is not None:
            return extract
    return parse_code(text, "yaml")


def parse_json_lines(text: str, *, name: str, limits: ParseLimits) -> Extract:
    """One record per line, each with its line number.

    Raises:
        DocumentError: a line is not JSON.
    """
    writer = TextWriter(name, limits)
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        if line.strip():
            value = load_json(line, name, number)
            writer.add(_outline(value, name), "record", line=number)
    return Extract(writer.text, writer.blocks, "application/x-ndjson")


def _check_values(text: str, name: str, limits: ParseLimits, between: str) -> None:
    """Refuse data that would fill the memory: each value costs about a hundred bytes, however short it is."""
    # each needs a character, so that short texts need no counting
    if len(text) > limits.max_values and sum(map(text.count, between)) > limits.max_values:
        raise too_large(name, "values", limits.max_values)


def load_json(text: str, name: str, line: int | None = None) -> Any:
    """The value of a JSON text, numbers as they are written."""
    try:
        # numbers stay text: nothing here reckons with them, and nothing is lost or refused for its length
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except json.JSONDecodeError as error:
        raise DocumentError(
            f"'{label(name)}' is not valid JSON: {error.msg} at line {line or error.lineno}, column {error.colno}.",
            name=name,
        ) from error
    except RecursionError as error:
        raise too_deep(name, MAX_DEPTH) from error


def _parse_api(value: Any, name: str, limits: ParseLimits, lines: Callable[[], Lines], parts: Parts) -> Extract | None:
    from memory_plugin.parsers.openapi import is_openapi, is_schema, parse_openapi, parse_schema
    from memory_plugin.parsers.openapi_parts import load_parts

    parse = parse_openapi if is_openapi(value) else parse_schema if is_schema(value) else None
    if parse is None:
        return None
    room = limits.max_values

    def load(data: bytes, file: str) -> Any:
        nonlocal room
        text = decode(data, name=file, charset=None)[0]
        room -= sum(map(text.count, ",[{\n"))
        if room < 0:
            raise too_large(name, "values", limits.max_values, "a description with all its files")
        if extension(file) == ".json":
            return load_json(text, file)
        from memory_plugin.parsers.yaml_events import load_yaml

        return load_yaml(text, file, MAX_DEPTH)[0]

    values = load_parts(parts, value, name, load)
    return parse(value, name=name, limits=limits, lines=lines(), parts=values)


def _parse_outline(value: Any, text: str, name: str, limits: ParseLimits) -> Extract:
    """The records of a list, or the members of an object, as blocks of indented `key: value` lines."""
    writer = TextWriter(name, limits)
    for path, part, line in _parts(value, record_lines(text)):
        writer.add(_outline(part, name), "record", heading_path=path, line=line)
    return Extract(writer.text, writer.blocks, "application/json")


_Part = tuple[tuple[str, ...], Any, int | None]  # heading path, value, line


def _parts(value: Any, lines: Sequence[int]) -> Iterator[_Part]:
    """What stands on its own: list elements, and objects' members that are containers; the rest together."""
    if isinstance(value, list):
        for item, line in zip(value, lines, strict=True):
            yield (), item, line
    elif isinstance(value, Mapping):
        yield from _members(value, lines)
    else:
        yield (), value, 1


def _members(value: Mapping[str, Any], lines: Sequence[int]) -> Iterator[_Part]:
    known = len(lines) == len(value) + sum(len(item) for item in value.values() if isinstance(item, list))

    def placed() -> Iterator[tuple[str, Any, int | None, Iterator[int | None]]]:
        """Each member with its line and those of its elements; without, where a key that stands twice has lost one."""
        rest = iter(lines)
        for key, item in value.items():
            size = len(item) if isinstance(item, list) else 0
            yield key, item, next(rest) if known else None, iter([*islice(rest, size)] if known else [None] * size)

    plain = {key: item for key, item in value.items() if not isinstance(item, Mapping | list) or not item}
    if plain:
        yield (), plain, next(line for key, _, line, _ in placed() if key in plain)
    for key, item, line, elements in placed():
        if key in plain:
            continue
        if isinstance(item, list) and any(isinstance(element, Mapping | list) for element in item):
            for element, element_line in zip(item, elements, strict=True):
                yield (label(key),), element, element_line
        else:
            yield (label(key),), {key: item}, line


def _outline(value: Any, name: str) -> str:
    lines: list[str] = []
    _write(value, "", "", lines, name)
    return "\n".join(lines)


def _write(value: Any, lead: str, indent: str, lines: list[str], name: str) -> None:
    """Append the lines of a value; `lead` begins the first of them, `indent` the others."""
    if len(indent) > MAX_DEPTH * len(_INDENT):
        raise too_deep(name, MAX_DEPTH)
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            if isinstance(item, Mapping | list) and item:
                lines.append(f"{lead}{key}:")
                _write(item, indent + _INDENT, indent + _INDENT, lines, name)
            else:
                lines.append(f"{lead}{key}: {_scalar(item)}")
            lead = indent
    elif isinstance(value, list) and value:
        for item in value:
            _write(item, f"{lead}- ", indent + _INDENT, lines, name)
            lead = indent
    else:
        lines.append(lead + _scalar(value))


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | Sequence):
        return "{}" if isinstance(value, Mapping) else "[]"
    return json.dumps(value)
