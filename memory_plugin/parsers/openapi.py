"""OpenAPI 3, Swagger 2 and JSON Schema: one passage per operation and one per schema.

What does not fit one passage is said shortly in it, and in full in those that follow.
The extracted text is a rendering made to be searched and read: method and path, what the operation
does, its parameters, the fields of its body and its answers, with references resolved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from memory_plugin.chunking import count_tokens
from memory_plugin.parsers.base import Extract, ParseLimits, TextWriter, label
from memory_plugin.parsers.json_places import Lines
from memory_plugin.parsers.openapi_schema import (
    Detail,
    Fields,
    Resolver,
    is_true,
    mapping,
    one_line,
    prose,
    sequence,
    short,
)
from memory_plugin.parsers.openapi_short import (
    Listing,
    purpose,
    short_responses,
    short_schema,
    shortened,
    top_level,
)

_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace", "query"})
# more than any description needs; each of these may be an alias of something long
_MAX_SERVERS = 20
_MAX_TAGS = 200
_MAX_PARAMETERS = 200
_MAX_RESPONSES = 40
_MAX_BODY_FIELDS = 120
# tokens of one operation or schema, fewer than prose has in a chunk: fields beyond that drown what it is for; and
# what is too little for the fields of a body
_ROOM = 296
_LEAST_ROOM = 60
# how the fields of a body are said, from the fullest on: references followed, and detail
_BODY_DETAILS: tuple[tuple[int, Detail], ...] = ((2, "full"), (1, "full"), (1, "sentence"), (1, "names"))
_INLINE_DETAILS: tuple[tuple[int, Detail], ...] = ((2, "full"), (0, "full"))
_FORM_TYPES = ("multipart/form-data", "application/x-www-form-urlencoded")

# tokens from which on an operation is said shortly first: remarks on many fields drown what it is for
_LONG = 230
# of the chunks that say in full what a short one says before
_DETAILS = {"part": "details"}

_Rendered = tuple[tuple[str, ...], dict[str, Any], list[str], int | None]  # heading path, metadata, parts, line


def is_openapi(value: Any) -> bool:
    """Whether a parsed file is an OpenAPI 3 or Swagger 2 description."""
    root = mapping(value)
    version = str(root.get("openapi") or root.get("swagger") or "")
    return version[:1] in ("2", "3") and any(
        isinstance(root.get(key), Mapping) for key in ("paths", "components", "webhooks", "definitions")
    )


def is_schema(value: Any) -> bool:
    """Whether a parsed file is a JSON Schema that says so."""
    root = mapping(value)
    dialect = root.get("$schema")
    return isinstance(dialect, str) and "json-schema.org" in dialect


def parse_openapi(
    root: Mapping[str, Any], *, name: str, limits: ParseLimits, lines: Lines, parts: Mapping[str, Any] | None = None
) -> Extract:
    """An API description as text: an overview, then the operations in order, webhooks, and schemas.

    The metadata of an operation's chunks has `kind`, `method`, `path`, `operation_id` and `tags`,
    that of a schema's `kind` and `schema`, and `file` where they are in one of the `parts`. `lines` are of `root`.
    """
    writer = TextWriter(name, limits)
    info = mapping(root.get("info"))
    title = label(str(info.get("title") or name))
    _write(writer, _overview(root, title), (title,), {"kind": "overview"}, lines.get(("info",), 1))
    operations = 0
    renderer = _Operations(root, title, lines, parts)
    for path, metadata, texts, line in renderer.all():
        _write(writer, texts, path, metadata, line)
        operations += "part" not in metadata
    resolve = renderer.resolver.resolve
    named = resolve(resolve(root.get("components"))[0].get("schemas"))[0] or resolve(root.get("definitions"))[0]
    schemas = _Schemas(writer, renderer.fields, lines)
    schemas.write_all(named, (title, "Schemas"))
    schemas.write_met((title, "Schemas"))
    version = str(root.get("openapi") or root.get("swagger"))
    return Extract(
        writer.text,
        writer.blocks,
        "application/vnd.oai.openapi",
        title=title,
        metadata={
            "format": f"{'OpenAPI' if 'openapi' in root else 'Swagger'} {short(version)}",
            "api_version": short(info.get("version", "")),
            "operations": operations,
            "schemas": schemas.count,
        },
    )


def parse_schema(
    root: Mapping[str, Any], *, name: str, limits: ParseLimits, lines: Lines, parts: Mapping[str, Any] | None = None
) -> Extract:
    """A JSON Schema as text: its own fields, then each of its definitions; `lines` says where those are."""
    writer = TextWriter(name, limits)
    schemas = _Schemas(writer, Fields(Resolver(root, parts)), lines)
    title = label(str(root.get("title") or name))
    schemas.write(title, root, (title,), 1)
    definitions = {**mapping(root.get("definitions")), **mapping(root.get("$defs"))}
    schemas.write_all(definitions, (title, "Definitions"))
    return Extract(
        writer.text,
        writer.blocks,
        "application/schema+json",
        title=title,
        metadata={"schemas": len(definitions)},
    )


def _write(
    writer: TextWriter,
    parts: list[str],
    heading_path: tuple[str, ...],
    metadata: Mapping[str, Any],
    line: int | None,
) -> None:
    """Write the parts of one thing, as many together as fit a chunk; a longer one under its first line."""
    for text, tokens in _grouped(parts):
        if tokens <= _ROOM:
            writer.add(text, "record", heading_path=heading_path, line=line, metadata=metadata)
        else:
            head, _, rest = text.partition("\n")
            writer.add(head, "heading", heading_path=heading_path, line=line, metadata=metadata)
            writer.add(rest, "record", heading_path=heading_path, line=line, metadata=metadata, tight=True)


def _grouped(parts: list[str]) -> Iterator[tuple[str, int]]:
    """Neighbours joined while they fit a chunk, with their number of tokens."""
    group, size = "", 0
    for part in parts:
        tokens = count_tokens(part) + 2
        if group and size + tokens > _ROOM:
            yield group, size
            group, size = "", 0
        group = f"{group}\n\n{part}" if group else part
        size += tokens
    if group:
        yield group, size


def _overview(root: Mapping[str, Any], title: str) -> list[str]:
    info = mapping(root.get("info"))
    version = f" {short(info['version'])}" if info.get("version") else ""
    tags = [
        f"- {short(tag.get('name'))}: {one_line(tag.get('description'))}".rstrip(": ")
        for tag in map(mapping, sequence(root.get("tags"))[:_MAX_TAGS])
    ]
    parts = [
        "\n".join([f"{title}{version}", prose(info.get("description") or info.get("summary"))]).strip(),
        _listed("Servers:", _servers(root)),
        _listed("Authentication:", _security_schemes(root)),
        _listed("Sections:", tags),
    ]
    return [part for part in parts if part]


def _listed(head: str, lines: list[str]) -> str:
    """A head line with what it lists, empty when there is nothing to list."""
    return "\n".join([head, *lines]) if lines else ""


def _servers(root: Mapping[str, Any]) -> list[str]:
    servers = [
        f"- {short(server.get('url'))} {one_line(server.get('description'))}".rstrip()
        for server in map(mapping, sequence(root.get("servers"))[:_MAX_SERVERS])
    ]
    if root.get("host") or root.get("basePath"):
        scheme = (sequence(root.get("schemes")) or ["https"])[0]
        servers.append(f"- {short(scheme)}://{short(root.get('host') or '')}{short(root.get('basePath') or '')}")
    return servers


def _security_schemes(root: Mapping[str, Any]) -> list[str]:
    schemes = mapping(mapping(root.get("components")).get("securitySchemes"))
    lines = []
    for key, value in (schemes or mapping(root.get("securityDefinitions"))).items():
        scheme = mapping(value)
        words = " ".join(short(scheme[word]) for word in ("type", "scheme", "in", "name") if word in scheme)
        lines.append(f"- {short(key)} ({words}): {one_line(scheme.get('description'))}".rstrip(": "))
    return lines


class _Schemas:
    """Writes the schemas of one description."""

    def __init__(self, writer: TextWriter, fields: Fields, lines: Lines) -> None:
        self.writer = writer
        self.fields = fields
        self.lines = lines
        self.count = 0
        self._written: set[int] = set()

    def write_all(self, schemas: Mapping[str, Any], path: tuple[str, ...]) -> None:
        for key, schema in schemas.items():
            places = (("components", "schemas", key), ("$defs", key), ("definitions", key))
            line = next((self.lines[place] for place in places if place in self.lines), None)
            self.write(key, schema, (*path, label(key)), line)

    def write_met(self, path: tuple[str, ...]) -> None:
        """Write the schemas of other files that were named so far, and those that they name, each once."""
        met, written = self.fields.met, 0
        while written < len(met):
            for reference in list(islice(met, written, None)):
                schema, name = self.fields.resolver.resolve({"$ref": reference})
                if name and id(schema) not in self._written:
                    self.write(name, {"$ref": reference}, (*path, label(name)), None)
                written += 1

    def write(self, key: str, schema: Any, path: tuple[str, ...], line: int | None) -> None:
        """Write a schema as one chunk; one that is longer is said shortly first."""
        fields = self.fields
        if file := fields.resolver.file_of(schema):
            schema = fields.resolver.resolve(schema)[0]  # where it is says nothing of it
        self._written.add(id(schema))
        self.count += 1
        head = f"Schema {label(key)} ({fields.type_of(schema)})"
        remarks = fields.remarks(schema)
        text = "\n".join([head, *([remarks] if remarks else []), *fields.lines(schema)])
        metadata: dict[str, Any] = {"kind": "schema", "schema": key, **({"file": file} if file else {})}
        if count_tokens(text) > _ROOM:
            _write(self.writer, [short_schema(head, schema, remarks, fields, _ROOM)], path, metadata, line)
            metadata = {**metadata, **_DETAILS}
        _write(self.writer, [text], path, metadata, line)


class _Operations:
    """Renders the operations of one description."""

    def __init__(
        self, root: Mapping[str, Any], title: str, lines: Lines, parts: Mapping[str, Any] | None = None
    ) -> None:
        self.root = root
        self.title = title
        self.lines = lines
        self.resolver = Resolver(root, parts)
        self.fields = Fields(self.resolver)

    def all(self) -> Iterator[_Rendered]:
        """Each operation in order, then each webhook."""
        resolve, file_of = self.resolver.resolve, self.resolver.file_of
        for section, prefix in (("paths", ""), ("webhooks", "Webhook ")):
            for path, item in resolve(self.root.get(section))[0].items():
                resolved = resolve(item)[0]
                for method, named in _operations(resolved):
                    operation = resolve(named)[0]
                    file = file_of(named) or file_of(item) or file_of(self.root.get(section))
                    # a path that is a reference has no methods where it stands
                    line = self.lines.get((section, path, method.lower()), self.lines.get((section, path)))
                    for place, metadata, parts in self._operation(method, path, prefix, resolved, operation):
                        yield place, {**metadata, "file": file} if file else metadata, parts, line

    def _operation(
        self, method: str, path: str, prefix: str, item: Mapping[str, Any], operation: Mapping[str, Any]
    ) -> Iterator[tuple[tuple[str, ...], dict[str, Any], list[str]]]:
        """The operation as one chunk; one that is longer is said shortly first."""
        head = f"{prefix}{method} {path}"
        tags = [label(str(tag)) for tag in sequence(operation.get("tags"))[:8]]
        metadata: dict[str, Any] = {
            "kind": "webhook" if prefix else "operation",
            "method": method,
            "path": path,
        }
        if operation.get("operationId"):
            metadata["operation_id"] = str(operation["operationId"])
        if tags:
            metadata["tags"] = tags
        parameters = [
            self.resolver.resolve(parameter)[0]
            for level in (item, operation)
            for parameter in sequence(level.get("parameters"))[:_MAX_PARAMETERS]
        ]
        before = [self._head(head, operation, item, tags), self._parameters(head, parameters)]
        after = [
            self._responses(head, mapping(operation.get("responses"))),
            self._callbacks(head, mapping(operation.get("callbacks"))),
        ]
        room = _ROOM - sum(count_tokens(part) + 2 for part in (*before, *after) if part)
        body = self._body(head, operation, parameters, room if room > _LEAST_ROOM else _ROOM)
        parts = [part for part in (*before, body, *after) if part]
        does = self._about(head, operation, item, tags)[0][1]
        place = (self.title, *tags[:1], label(f"{head}: {does}" if does else head))
        if sum(count_tokens(part) + 2 for part in parts) > _LONG:
            yield place, metadata, [self._short(head, operation, item, tags, parameters)]
            metadata = {**metadata, **_DETAILS}
        yield place, metadata, parts

    def _short(
        self,
        head: str,
        operation: Mapping[str, Any],
        item: Mapping[str, Any],
        tags: list[str],
        parameters: list[Mapping[str, Any]],
    ) -> str:
        """The operation in one chunk: what it does in a few sentences, and the names of all it takes and gives."""
        first, description, last = self._about(head, operation, item, tags)
        listings = [Listing("Parameters:", self._parameters(head, parameters).split("\n")[1:])]
        media_type, _, schema = self._body_of(operation, parameters)
        listings.append(Listing(f"Request body ({media_type}):", top_level(self.fields, schema)))
        responses = mapping(operation.get("responses"))
        types = {status: self._returned(self.resolver.resolve(value)[0])[0] for status, value in responses.items()}
        last = [*last, short_responses(responses, types)]
        return shortened(first, description, [each for each in listings if each.items], last, _ROOM)

    def _head(self, head: str, operation: Mapping[str, Any], item: Mapping[str, Any], tags: list[str]) -> str:
        first, description, last = self._about(head, operation, item, tags)
        return "\n".join(line for line in (*first, description, *last) if line)

    def _about(
        self, head: str, operation: Mapping[str, Any], item: Mapping[str, Any], tags: list[str]
    ) -> tuple[list[str], str, list[str]]:
        """What is said of an operation before, in and after its description."""
        summary = one_line(operation.get("summary") or item.get("summary"))
        first = [head, summary or purpose(head, operation.get("description"))]
        if is_true(operation.get("deprecated")):
            first.append("Deprecated.")
        last = []
        if operation.get("operationId"):
            last.append(f"Operation: {short(operation['operationId'])}")
        if tags:
            last.append(f"Section: {', '.join(tags)}")
        security = [
            " and ".join(map(short, requirement))
            for requirement in map(mapping, sequence(operation.get("security", self.root.get("security")))[:8])
            if requirement
        ]
        if security:
            last.append(f"Authentication: {' or '.join(security)}")
        return first, prose(operation.get("description") or item.get("description")), last

    def _parameters(self, head: str, parameters: list[Mapping[str, Any]]) -> str:
        # a parameter of the operation replaces the one of the path with the same name and place
        named = {(str(parameter.get("name")), parameter.get("in")): parameter for parameter in parameters}
        lines = [
            self._field(parameter, f"{place}, ")
            for (_, place), parameter in named.items()
            if place not in ("body", "formData")
        ]
        return _listed(f"Parameters of {head}:", lines)

    def _field(self, parameter: Mapping[str, Any], place: str) -> str:
        schema = parameter.get("schema") or next(
            (mapping(media).get("schema") for media in mapping(parameter.get("content")).values()), None
        )
        schema = schema if schema is not None else parameter  # Swagger 2 writes the type beside the name
        flag = ", required" if is_true(parameter.get("required")) else ""
        text = f"- {short(parameter.get('name'))} ({place}{self.fields.type_of(schema)}{flag})"
        own = one_line(parameter.get("description")) if schema is not parameter else ""
        remarks = self.fields.remarks(schema, described=bool(own))
        described = " ".join(part for part in (own, remarks) if part)
        return f"{text}: {described}" if described else text

    def _body(self, head: str, operation: Mapping[str, Any], parameters: list[Mapping[str, Any]], room: int) -> str:
        media_type, body, schema = self._body_of(operation, parameters)
        if body is None:
            form = [self._field(parameter, "") for parameter in parameters if parameter.get("in") == "formData"]
            return _listed(f"Request body of {head} (form fields):", form)
        return self._body_text(head, media_type, body, schema, room)

    def _body_of(
        self, operation: Mapping[str, Any], parameters: list[Mapping[str, Any]]
    ) -> tuple[str, Mapping[str, Any] | None, Any]:
        """The media type of a request's body, what is said of it, and its schema; None where there is no body."""
        body = self.resolver.resolve(operation.get("requestBody"))[0]
        content = mapping(body.get("content"))
        if content:
            media_type, schema = _preferred(content)
            # generators write a form without fields where there is no body
            return media_type, body if media_type not in _FORM_TYPES or self.fields.lines(schema) else None, schema
        for parameter in parameters:
            if parameter.get("in") == "body":
                consumes = sequence(operation.get("consumes")) or sequence(self.root.get("consumes"))
                return short(consumes[0]) if consumes else "application/json", parameter, parameter.get("schema")
        return "", None, None

    def _body_text(self, head: str, media_type: str, body: Mapping[str, Any], schema: Any, room: int) -> str:
        """The fields of a body, in as much detail as there is room for.

        Nothing is lost by saying less: a schema with a name is said in full in its own place, and one
        without a name keeps all of its own fields' descriptions.
        """
        words = [media_type, "required" if is_true(body.get("required")) else "optional", self.fields.type_of(schema)]
        first = [f"Request body of {head} ({', '.join(words)}):", one_line(body.get("description"))]
        text = ""
        for follow, detail in _BODY_DETAILS if "$ref" in mapping(schema) else _INLINE_DETAILS:
            lines = [*first, *self.fields.lines(schema, limit=_MAX_BODY_FIELDS, follow=follow, detail=detail)]
            text = "\n".join(line for line in lines if line)
            if count_tokens(text) <= room:
                break
        return text

    def _responses(self, head: str, responses: Mapping[str, Any]) -> str:
        lines = []
        for status, value in islice(responses.items(), _MAX_RESPONSES):
            response = self.resolver.resolve(value)[0]
            returned, schema = self._returned(response)
            line = f"- {short(status)}: {one_line(response.get('description'))}".rstrip(": ")
            if returned:
                line += f" Returns {returned}."
            lines.append(line)
            inline = "$ref" not in mapping(schema) and "$ref" not in mapping(mapping(schema).get("items"))
            if schema is not None and inline:
                lines.extend(f"  {field}" for field in self.fields.lines(schema, limit=30))
        return _listed(f"Responses of {head}:", lines)

    def _returned(self, response: Mapping[str, Any]) -> tuple[str, Any]:
        """The type that an answer has in words, empty where it has none, and its schema."""
        content = mapping(response.get("content"))
        schema = _preferred(content)[1] if content else response.get("schema")
        return (self.fields.type_of(schema) if schema is not None else ""), schema

    def _callbacks(self, head: str, callbacks: Mapping[str, Any]) -> str:
        lines = []
        for name, value in islice(callbacks.items(), _MAX_RESPONSES):
            for url, item in islice(self.resolver.resolve(value)[0].items(), _MAX_RESPONSES):
                for method, named in _operations(self.resolver.resolve(item)[0]):
                    operation = self.resolver.resolve(named)[0]
                    summary = one_line(operation.get("summary") or operation.get("description"))
                    lines.append(f"- {short(name)}: {method} {short(url)} {summary}".rstrip())
        return _listed(f"Callbacks of {head}:", lines)


def _operations(item: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The operations on one path, in order, with their methods in upper case."""
    for key, operation in item.items():
        if key.lower() in _METHODS and isinstance(operation, Mapping):
            yield key.upper(), operation


def _preferred(content: Mapping[str, Any]) -> tuple[str, Any]:
    """The media type to show: JSON, then forms, then whatever comes first."""
    for wanted in ("application/json", *_FORM_TYPES):
        if wanted in content:
            return wanted, mapping(content[wanted]).get("schema")
    for media_type, media in content.items():
        return short(media_type), mapping(media).get("schema")
    return "any", None
