"""API descriptions: every operation and schema findable, references resolved, hostile ones bounded."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_plugin.embedding import StaticEmbedder
from memory_plugin.errors import ContentTooLargeError, DocumentError
from memory_plugin.parsers import ParseLimits, parse
from memory_plugin.parsers.openapi_short import by_custom
from memory_plugin.types import Chunk, ParsedDocument
from tests.chunk_checks import assert_sound

PAYMENTS = Path(__file__).parent / "data" / "openapi_payments.yaml"


@pytest.fixture(scope="module")
def payments() -> ParsedDocument:
    return parse(PAYMENTS.read_bytes(), name="openapi_payments.yaml")


def operation(document: ParsedDocument, operation_id: str) -> str:
    """The text of an operation, all its chunks together."""
    return "\n\n".join(chunk.text for chunk in document.chunks if chunk.metadata.get("operation_id") == operation_id)


def schema(document: ParsedDocument, name: str) -> str:
    return "\n".join(chunk.text for chunk in document.chunks if chunk.metadata.get("schema") == name)


def api(**parts: Any) -> str:
    return json.dumps({"openapi": "3.1.0", "info": {"title": "T", "version": "1"}, "paths": {}, **parts})


def with_body(schema: Any, **schemas: Any) -> ParsedDocument:
    """A description with one operation whose body has this schema."""
    content = {"application/json": {"schema": schema}}
    paths = {"/x": {"post": {"operationId": "op", "requestBody": {"content": content}, "responses": {}}}}
    return parse(api(paths=paths, components={"schemas": schemas}), name="a.json")


def test_the_payments_description_is_read_whole(payments: ParsedDocument) -> None:
    assert_sound(payments)
    assert payments.title == "Payments API"
    assert payments.media_type == "application/vnd.oai.openapi"
    assert payments.metadata["format"] == "OpenAPI 3.1.0"
    assert (payments.metadata["operations"], payments.metadata["schemas"]) == (9, 11)
    assert payments.metadata["api_version"] == "2025-04-01"


def test_json_and_yaml_give_the_same_text(payments: ParsedDocument) -> None:
    same = parse(json.dumps(yaml.safe_load(PAYMENTS.read_text())), name="payments.json")
    assert same.text == payments.text


@pytest.mark.parametrize(
    ("name", "media_type"), [("api", None), ("api.yml", "text/plain"), ("spec", "application/yaml")]
)
def test_a_description_is_known_by_its_content(name: str, media_type: str | None) -> None:
    document = parse(PAYMENTS.read_bytes(), name=name, media_type=media_type)
    assert document.media_type == "application/vnd.oai.openapi"


def test_an_operation_is_one_chunk_that_names_all_and_its_fields_are_said_in_full(payments: ParsedDocument) -> None:
    chunk, details = [chunk for chunk in payments.chunks if chunk.metadata.get("operation_id") == "createRefund"]
    assert chunk.metadata == {
        "kind": "operation",
        "method": "POST",
        "path": "/refunds",
        "operation_id": "createRefund",
        "tags": ["Refunds"],
    }
    assert chunk.heading_path == ("Payments API", "Refunds", "POST /refunds: Create a refund")
    assert chunk.text.startswith("POST /refunds\nCreate a refund\nGives back all or part of a charge")
    assert "Parameters: Idempotency-Key (header, string)" in chunk.text
    assert "Request body (application/json): charge (string, required), amount (integer), reason (string)" in chunk.text
    assert details.metadata == {**chunk.metadata, "part": "details"}
    for line in (
        "- Idempotency-Key (header, string): The same key again gives the same answer, and no second payment. Longest: 255.",
        "Request body of POST /refunds (application/json, required, object):",
        "- charge (string, required): The charge to give back. Example: ch_3NqTzK.",
        "- amount (integer): Part of the charge to give back; all of it when left out. At least 1.",
        "- reason (string): One of: duplicate, fraudulent, requested_by_customer.",
        "- 201: The refund is on its way. Returns Refund.",
        "Authentication: secretKey",
    ):
        assert line in details.text.splitlines()


def test_a_long_operation_is_one_chunk_that_names_all_and_others_that_say_it_in_full() -> None:
    words = "It takes five to ten days until the money is there. "
    parameters = [{"name": f"p{number}", "in": "query", "description": words} for number in range(9)]
    fields = {f"f{number}": {"type": "string", "description": words} for number in range(9)}
    body = {"content": {"application/json": {"schema": {"properties": fields}}}}
    responses = {str(status): {"description": words} for status in range(400, 410)}
    post = {"description": words * 9, "parameters": parameters, "requestBody": body, "responses": responses}
    document = parse(api(paths={"/v1/refunds": {"post": post}}), name="a.json")
    assert_sound(document)
    main, *details = [chunk for chunk in document.chunks if chunk.metadata["kind"] == "operation"]
    assert main.text.splitlines()[:2] == ["POST /v1/refunds", "Create refund"]
    assert "Parameters: p0 (query, any), p1 (query, any)" in main.text
    assert "Request body (application/json): f0 (string), f1 (string)" in main.text
    assert "Responses: 400, 401, 402" in main.text
    assert len(details) == 2
    assert all("POST /v1/refunds" in chunk.text.splitlines()[0] for chunk in details)
    assert all(chunk.metadata == {**main.metadata, "part": "details"} for chunk in details)
    assert "".join(chunk.text for chunk in details).count(words.strip()) == 9 + 9 + 9 + 10


@pytest.mark.parametrize(
    ("method", "path", "does"),
    [
        ("POST", "/v1/refunds", "create refund"),
        ("GET", "/v1/refunds", "list refunds"),
        ("GET", "/v1/refunds/{refund}", "retrieve refund"),
        ("POST", "/v1/refunds/{refund}", "update refund"),
        ("DELETE", "/customers/{id}", "delete customer"),
        ("PATCH", "/paymentMethods/:id", "update payment method"),
        ("POST", "/invoices/{invoice}/pay", "pay invoice"),
        ("GET", "/accounts/{account}/capabilities", "list capabilities of account"),
        ("POST", "/companies/{id}/addresses", "create address of company"),
        ("GET", "/v1/balance", "retrieve balance"),
        ("GET", "/", ""),
        ("POST", "refund.created", ""),
    ],
)
def test_what_an_operation_does_is_told_from_its_method_and_path(method: str, path: str, does: str) -> None:
    assert by_custom(method, path) == does


def test_a_long_schema_is_one_chunk_that_names_all_fields() -> None:
    fields = {f"field_{number}": {"type": "string", "description": "Words about it. " * 5} for number in range(60)}
    document = parse(api(components={"schemas": {"Order": {"properties": fields}}}), name="a.json")
    assert_sound(document)
    main, *details = [chunk for chunk in document.chunks if chunk.metadata.get("schema") == "Order"]
    assert main.text.startswith("Schema Order (object)\nFields: field_0")
    assert "part" not in main.metadata and all(chunk.metadata["part"] == "details" for chunk in details)
    assert sum(chunk.text.count("- field_") for chunk in details) == 60


def test_a_body_says_less_where_that_makes_its_operation_one_chunk() -> None:
    """What is left out is said in the schema's own chunks."""
    words = "A sentence about the field. And many more words about what it is for and when it was added. "
    fields = {f"f{number}": {"type": "string", "description": words} for number in range(12)}
    document = with_body({"$ref": "#/components/schemas/Order"}, Order={"properties": fields})
    (chunk,) = [chunk for chunk in document.chunks if chunk.metadata.get("operation_id") == "op"]
    assert "- f11 (string): A sentence about the field.\n" in chunk.text + "\n"
    assert schema(document, "Order").count("when it was added") == 12


def test_operations_come_in_the_order_they_were_written(payments: ParsedDocument) -> None:
    seen = [chunk.text.splitlines()[0] for chunk in payments.chunks if chunk.metadata.get("kind") == "operation"]
    assert list(dict.fromkeys(seen))[:3] == ["POST /charges", "GET /charges", "POST /charges/{charge_id}/capture"]


def test_parameters_of_the_path_are_parameters_of_its_operations(payments: ParsedDocument) -> None:
    assert "- charge_id (path, string, required): Id of the charge." in operation(payments, "captureCharge")
    listing = operation(payments, "listCharges")
    assert "- Api-Version (header, string)" in listing
    assert "- limit (query, integer): How many to return. Default: 10. At least 1. At most 100." in listing


def test_named_schemas_in_a_body_are_unfolded(payments: ParsedDocument) -> None:
    body = operation(payments, "createCustomer")
    assert "- address (Address)\n  - line1 (string)" in body
    assert "  - as Card:\n    - number (string, required): Card number without spaces." in body


def test_all_of_is_merged_with_what_it_requires(payments: ParsedDocument) -> None:
    text = operation(payments, "createCustomer")
    assert "(application/json, required, Person and more)" in text
    assert "- email (string (email), required)" in text
    assert "- default_source (one of Card, BankAccount): What is charged" in text


def test_named_responses_are_resolved(payments: ParsedDocument) -> None:
    assert "- 402: The card was declined. Returns Error." in operation(payments, "createCharge")


def test_inline_responses_show_their_fields(payments: ParsedDocument) -> None:
    assert "  - has_more (boolean, required): Whether there is another page." in operation(payments, "listCharges")


def test_forms_callbacks_and_deprecation_are_said(payments: ParsedDocument) -> None:
    endpoint = operation(payments, "createWebhookEndpoint")
    assert "(application/x-www-form-urlencoded, required, object)" in endpoint
    assert "- event: POST {$request.body#/url} Deliver an event" in endpoint
    assert "Deprecated." in operation(payments, "deleteCustomer").splitlines()


def test_a_webhook_is_an_operation_of_its_own_kind(payments: ParsedDocument) -> None:
    (chunk,) = [chunk for chunk in payments.chunks if chunk.metadata["kind"] == "webhook"]
    assert (chunk.metadata["path"], chunk.heading_path[-1]) == (
        "refund.created",
        "Webhook POST refund.created: A refund was created",
    )


def test_a_schema_is_one_chunk_and_names_the_others(payments: ParsedDocument) -> None:
    assert schema(payments, "Charge") == (
        "Schema Charge (object)\nMoney taken, or reserved.\n- id (string): Read-only.\n- amount (integer)\n"
        "- status (string): One of: pending, succeeded, failed.\n- customer (any of Customer, null)\n"
        "- refunds (array of Refund)"
    )


def test_the_overview_says_where_and_how(payments: ParsedDocument) -> None:
    overview = payments.chunks[0].text
    assert "- https://sandbox.payments.example/v1 Test mode; no money moves" in overview
    assert "- secretKey (http bearer): The secret key of the account, from the dashboard." in overview
    assert "- Refunds: Giving money back." in overview


def test_the_span_of_an_operation_points_at_its_rendering(payments: ParsedDocument) -> None:
    chunk = next(chunk for chunk in payments.chunks if chunk.metadata.get("operation_id") == "getRefund")
    assert payments.text[chunk.start : chunk.end].startswith("GET /refunds/{refund_id}\nRetrieve a refund")


@pytest.mark.skipif(not StaticEmbedder.is_available(), reason="needs the embedded extra")
@pytest.mark.parametrize(
    ("question", "operation_id"),
    [
        ("how do I create a refund", "createRefund"),
        ("give a customer their money back", "createRefund"),
        ("list the charges of one customer", "listCharges"),
        ("how do I capture a reserved charge", "captureCharge"),
        ("register a URL for webhook events", "createWebhookEndpoint"),
        ("delete a customer", "deleteCustomer"),
    ],
)
async def test_a_question_finds_its_operation(payments: ParsedDocument, question: str, operation_id: str) -> None:
    """Words and meaning together, as recall uses them, put the operation first among the operations."""
    chunks = [chunk for chunk in payments.chunks if chunk.metadata["kind"] == "operation"]
    embedder = StaticEmbedder()
    query = await embedder.embed_query(question)
    vectors = await embedder.embed_documents([" ".join([*chunk.heading_path, chunk.text]) for chunk in chunks])
    asked = set(re.findall(r"[a-z]{4,}", question))

    def score(pair: tuple[Chunk, Any]) -> float:
        chunk, vector = pair
        words = set(re.findall(r"[a-z]{4,}", chunk.text.lower()))
        return sum(x * y for x, y in zip(query, vector, strict=True)) + len(asked & words) / len(asked)

    best = max(zip(chunks, vectors, strict=True), key=score)[0]
    assert best.metadata["operation_id"] == operation_id


# ---------------------------------------------------------------- other dialects

SWAGGER = {
    "swagger": "2.0",
    "info": {"title": "Old API", "version": "1"},
    "host": "api.example.org",
    "basePath": "/v1",
    "consumes": ["application/json"],
    "securityDefinitions": {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}},
    "paths": {
        "/refunds": {
            "post": {
                "summary": "Create a refund",
                "parameters": [
                    {"name": "dry", "in": "query", "type": "boolean", "description": "Only check."},
                    {"name": "body", "in": "body", "required": True, "schema": {"$ref": "#/definitions/Refund"}},
                ],
                "responses": {"200": {"description": "Done.", "schema": {"$ref": "#/definitions/Refund"}}},
            }
        },
        "/files": {"put": {"parameters": [{"name": "file", "in": "formData", "type": "file", "required": True}]}},
    },
    "definitions": {"Refund": {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}},
}


def test_swagger_2_is_read_too() -> None:
    document = parse(json.dumps(SWAGGER), name="swagger.json")
    assert_sound(document)
    assert document.metadata["format"] == "Swagger 2.0"
    assert "- https://api.example.org/v1" in document.text
    assert "- dry (query, boolean): Only check." in document.text
    assert (
        "Request body of POST /refunds (application/json, required, Refund):\n- id (string, required)" in document.text
    )
    assert "- 200: Done. Returns Refund." in document.text
    assert "Request body of PUT /files (form fields):\n- file (file, required)" in document.text
    assert schema(document, "Refund").startswith("Schema Refund (object)")


def test_a_json_schema_is_its_fields_and_its_definitions() -> None:
    source = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings",
        "type": "object",
        "required": ["port"],
        "properties": {
            "port": {"type": "integer", "default": 80},
            "hosts": {"type": "array", "items": {"$ref": "#/$defs/host"}},
            "inner": {"type": "object", "properties": {"deep": {"const": "x"}}},
        },
        "$defs": {"host": {"type": "string", "format": "hostname"}},
    }
    document = parse(json.dumps(source), name="settings.schema.json")
    assert_sound(document)
    assert (document.title, document.media_type) == ("Settings", "application/schema+json")
    assert schema(document, "Settings") == (
        "Schema Settings (object)\n- port (integer, required): Default: 80.\n- hosts (array of host)\n"
        "- inner (object)\n  - deep (any): Always x."
    )
    assert schema(document, "host") == "Schema host (string (hostname))"


def test_yaml_anchors_and_merges_are_followed() -> None:
    source = """
openapi: 3.0.3
info: {title: T, version: 1.10}
x-base: &base
  summary: From the base
  responses: {200: {description: Fine.}}
paths:
  /a: {get: &get {<<: *base, operationId: getA}}
  /b: {get: {<<: *get, operationId: getB}}
"""
    document = parse(source, name="a.yaml")
    assert "GET /b\nFrom the base\nOperation: getB" in document.text
    assert document.metadata["api_version"] == "1.10"


def test_html_in_descriptions_is_taken_out() -> None:
    paths = {"/x": {"get": {"summary": "S", "description": "<p>Use <a href='x'>this</a>, 1 < 2.</p>"}}}
    assert "Use  this , 1 < 2." in parse(api(paths=paths), name="a.json").text


# ---------------------------------------------------------------- references that lead nowhere


def test_a_schema_that_holds_itself_ends() -> None:
    node = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "child": {"$ref": "#/components/schemas/Node"}},
    }
    document = with_body({"$ref": "#/components/schemas/Node"}, Node=node)
    assert operation(document, "op").count("- child (Node)") == 1


@pytest.mark.parametrize(
    "schemas",
    [
        {"A": {"$ref": "#/components/schemas/A"}},
        {"A": {"$ref": "#/components/schemas/B"}, "B": {"$ref": "#/components/schemas/A"}},
        {"A": {"allOf": [{"$ref": "#/components/schemas/A"}, {"properties": {"x": {}}}]}},
        {"A": {"items": {"$ref": "#/components/schemas/A"}}},
        {"A": {"oneOf": [{"$ref": "#/components/schemas/A"}]}},
        {"A": {"$ref": "#/components/schemas"}},
        {"A": {"$ref": "#"}},
        {"A": {"$ref": "other.yaml#/A"}},
        {"A": {"$ref": "#/nowhere/at/all"}},
        {"A": {"$ref": 5}},
        {"A": {"$ref": "#/components/schemas/" + "x/" * 100_000}},
    ],
)
def test_circles_and_dead_ends_are_harmless(schemas: dict[str, Any]) -> None:
    document = with_body({"$ref": "#/components/schemas/A"}, **schemas)
    assert_sound(document)
    assert "Schema A" in document.text


def test_pointers_are_unescaped() -> None:
    document = with_body({"$ref": "#/paths/~1x/x-schemas/0"})
    source = json.loads(api(paths={"/a/{b}": {"get": {"requestBody": {"$ref": "#/x-bodies/a~1b%20c~0/0"}}}}))
    source["x-bodies"] = {"a/b c~": [{"description": "Found.", "content": {"text/plain": {}}}]}
    assert_sound(document)
    assert "Found." in parse(json.dumps(source), name="a.json").text


def test_a_schema_that_unfolds_without_end_is_bounded() -> None:
    """Eight levels of fifty fields are forty million million lines."""
    levels = {
        f"L{level}": {
            "properties": {f"f{number}": {"$ref": f"#/components/schemas/L{level + 1}"} for number in range(50)}
        }
        for level in range(8)
    }
    started = time.process_time()
    document = with_body({"$ref": "#/components/schemas/L0"}, **levels)
    assert len(operation(document, "op")) < 10_000
    assert time.process_time() - started < 5


def test_alternatives_that_multiply_are_bounded() -> None:
    levels = {
        f"L{level}": {"oneOf": [{"oneOf": [{"$ref": f"#/components/schemas/L{level + 1}"}] * 24}] * 24}
        for level in range(6)
    }
    schemas = {
        f"S{number}": {"oneOf": [{"allOf": [{"$ref": "#/components/schemas/L0"}] * 24}] * 24} for number in range(100)
    }
    started = time.process_time()
    parse(api(components={"schemas": {**levels, **schemas}}), name="a.json")
    assert time.process_time() - started < 20


def test_a_description_of_aliases_within_aliases_is_bounded() -> None:
    """The YAML form of a bomb: each level holds the one before ten times."""
    lines = [
        "openapi: 3.1.0",
        "info: {title: T, version: '1'}",
        "paths: {}",
        "x0: &x0 {type: string, description: words}",
    ]
    for level in range(1, 30):
        fields = ", ".join(f"f{number}: *x{level - 1}" for number in range(10))
        lines.append(f"x{level}: &x{level} {{type: object, properties: {{{fields}}}}}")
    lines += ["components:", "  schemas:", *(f"    S{number}: *x29" for number in range(8))]
    started = time.process_time()
    assert_sound(parse("\n".join(lines), name="a.yaml"))
    assert time.process_time() - started < 10


def test_a_long_text_shown_again_and_again_hits_the_limit() -> None:
    source = f"openapi: 3.1.0\nx-long: &long {'word ' * 20_000}\npaths:\n" + "".join(
        f"  /p{number}: {{get: {{description: *long}}}}\n" for number in range(300)
    )
    with pytest.raises(ContentTooLargeError, match="characters"):
        parse(source, name="a.yaml", limits=ParseLimits(max_characters=2_000_000))


def test_a_yaml_node_that_holds_itself_is_harmless() -> None:
    source = "openapi: 3.1.0\npaths: {}\ncomponents:\n  schemas:\n    A: &a {properties: {self: *a}, items: *a, allOf: [*a]}\n"
    assert_sound(parse(source, name="a.yaml"))


@pytest.mark.parametrize(
    "nested",
    [
        "[" * 100_000,
        "{a: " * 100_000,
        "- " * 100_000 + "a",
        "\n" + "\n".join(" " * level + "a:" for level in range(1, 2000)),
    ],
)
def test_deep_yaml_is_refused_and_does_not_end_the_process(nested: str) -> None:
    with pytest.raises(DocumentError, match=r"levels|YAML"):
        parse(f"openapi: 3.1.0\npaths:\n {nested}", name="a.yaml")


@pytest.mark.parametrize(
    "source", ["openapi: 3.1.0\npaths: {", "openapi: 3.1.0\npaths: *nobody", "openapi: 3\npaths: [}\n"]
)
def test_broken_yaml_is_refused_with_its_place(source: str) -> None:
    with pytest.raises(DocumentError, match=r"not valid YAML: .* at line \d+"):
        parse(source, name="a.yaml")


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.sampled_from(["#", "#/paths", "object"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "get",
                    "post",
                    "parameters",
                    "name",
                    "in",
                    "schema",
                    "$ref",
                    "properties",
                    "required",
                    "allOf",
                    "oneOf",
                ]
                + ["items", "type", "enum", "description", "tags", "content", "requestBody", "responses", "200", "/x"]
                + ["callbacks", "security", "operationId", "deprecated", "application/json", "example", "format"]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=25,
)


@settings(max_examples=200, deadline=None)
@given(JSON, JSON, JSON)
def test_nonsense_in_a_description_never_breaks_the_parser(item: Any, schema: Any, info: Any) -> None:
    source = {
        "openapi": "3.1.0",
        "info": info,
        "tags": item,
        "servers": info,
        "security": schema,
        "paths": {"/x": item, "/y": {"post": schema, "get": {"requestBody": item, "responses": info}}},
        "components": {"schemas": {"A": schema, "B": item}, "securitySchemes": info},
        "webhooks": schema,
    }
    assert_sound(parse(json.dumps(source), name="a.json"))
