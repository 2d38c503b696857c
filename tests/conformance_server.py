"""The project's own server with what the conformance suite of the protocol asks a server under test to have.

Tools, resources and prompts of this module only look like what the suite expects; building the server, its
transport, its guard, its limits and its subscriptions are those of `mcp_server`. Nothing here is installed.

The suite also asks for what needs a connection that lasts (questions of the server, notices while a tool runs),
which the production server does without: `with_sessions` turns that on.
"""

from __future__ import annotations

import asyncio
import base64
import struct
import sys
import warnings
import zlib
from functools import partial
from typing import Any

import mcp.types as t
from mcp import MCPDeprecationWarning, MCPError
from mcp.server.mcpserver import Context, Message, UserMessage
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from mcp_server.access import CoreAccess, open_configured
from mcp_server.http import listen, serve_http
from mcp_server.memory_server import MemoryServer
from mcp_server.notices import Notices
from mcp_server.server import build_server
from mcp_server.settings import parse

Answer = str | t.CallToolResult | t.InputRequiredResult

WATCHED = "test://watched-resource"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_HEADER = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
_RED_PIXEL = b"\x00\xff\x00\x00"
PNG = (
    b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", _HEADER) + _chunk(b"IDAT", zlib.compress(_RED_PIXEL)) + _chunk(b"IEND", b"")
)
_FORMAT = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8)
WAV = b"RIFF" + struct.pack("<I", 44) + b"WAVE" + _FORMAT + struct.pack("<4sI", b"data", 8) + bytes([128] * 8)

IMAGE = t.ImageContent(type="image", data=base64.b64encode(PNG).decode(), mime_type="image/png")
AUDIO = t.AudioContent(type="audio", data=base64.b64encode(WAV).decode(), mime_type="audio/wav")


def _text(text: str) -> t.TextContent:
    return t.TextContent(type="text", text=text)


def _resource(uri: str, text: str, mime_type: str = "text/plain") -> t.EmbeddedResource:
    return t.EmbeddedResource(type="resource", resource=t.TextResourceContents(uri=uri, mime_type=mime_type, text=text))


def _content(*blocks: Any) -> t.CallToolResult:
    return t.CallToolResult(content=list(blocks))


# -- tools that answer


async def test_simple_text() -> t.CallToolResult:
    """Answer a text."""
    return _content(_text("This is a simple text response for testing."))


async def test_image_content() -> t.CallToolResult:
    """Answer an image."""
    return _content(IMAGE)


async def test_audio_content() -> t.CallToolResult:
    """Answer a sound."""
    return _content(AUDIO)


async def test_embedded_resource() -> t.CallToolResult:
    """Answer a resource."""
    return _content(_resource("test://embedded-resource", "This is an embedded resource content."))


async def test_multiple_content_types() -> t.CallToolResult:
    """Answer a text, an image and a resource."""
    mixed = _resource("test://mixed-content-resource", '{"test":"data","value":123}', "application/json")
    return _content(_text("Multiple content types test:"), IMAGE, mixed)


async def test_error_handling() -> t.CallToolResult:
    """Fail."""
    raise ToolError("This tool intentionally returns an error for testing")


async def test_tool_with_logging(ctx: Context[Any, Any]) -> t.CallToolResult:
    """Log three times on the way."""
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(message)
        await asyncio.sleep(0.05)
    return _content(_text("Tool with logging executed successfully"))


async def test_logging_tool(ctx: Context[Any, Any]) -> t.CallToolResult:
    """Log, for clients that asked for it."""
    await ctx.info("a line that only who asked for it may see")
    return _content(_text("Logged."))


async def test_tool_with_progress(ctx: Context[Any, Any]) -> t.CallToolResult:
    """Tell of progress three times."""
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100)
        await asyncio.sleep(0.05)
    return _content(_text("Tool with progress executed successfully"))


async def test_x_mcp_header(
    region: str = Field(json_schema_extra={"x-mcp-header": "Region"}), note: str = ""
) -> t.CallToolResult:
    """Take an argument that travels as a header too."""
    return _content(_text(f"region={region} note={note}"))


# -- tools that ask over a connection of the older era


async def test_sampling(prompt: str, ctx: Context[Any, Any]) -> t.CallToolResult:
    """Have the client's model answer."""
    answered = await ctx.session.create_message(
        [t.SamplingMessage(role="user", content=_text(prompt))], max_tokens=100, related_request_id=ctx.request_id
    )
    said = answered.content.text if isinstance(answered.content, t.TextContent) else str(answered.content)
    return _content(_text(f"LLM response: {said}"))


async def _ask(ctx: Context[Any, Any], message: str, properties: dict[str, Any], required: list[str]) -> t.ElicitResult:
    schema = {"type": "object", "properties": properties, "required": required}
    return await ctx.session.elicit_form(message, schema, ctx.request_id)


async def test_elicitation(message: str, ctx: Context[Any, Any]) -> t.CallToolResult:
    """Ask the person two things."""
    fields = {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    }
    answered = await _ask(ctx, message, fields, list(fields))
    return _content(_text(f"User response: action={answered.action}, content={answered.content}"))


async def test_elicitation_sep1034_defaults(ctx: Context[Any, Any]) -> t.CallToolResult:
    """Ask with a default for each type."""
    fields = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    answered = await _ask(ctx, "Check these.", fields, [])
    return _content(_text(f"Elicitation completed: action={answered.action}, content={answered.content}"))


def _titled(names: dict[str, str]) -> list[dict[str, str]]:
    return [{"const": value, "title": title} for value, title in names.items()]


async def test_elicitation_sep1330_enums(ctx: Context[Any, Any]) -> t.CallToolResult:
    """Ask with each kind of choice."""
    plain = ["option1", "option2", "option3"]
    options = {"value1": "First Option", "value2": "Second Option", "value3": "Third Option"}
    choices = {"value1": "First Choice", "value2": "Second Choice", "value3": "Third Choice"}
    fields = {
        "untitledSingle": {"type": "string", "enum": plain},
        "titledSingle": {"type": "string", "oneOf": _titled(options)},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
        "titledMulti": {"type": "array", "items": {"anyOf": _titled(choices)}},
    }
    answered = await _ask(ctx, "Choose.", fields, [])
    return _content(_text(f"Elicitation completed: action={answered.action}, content={answered.content}"))


# -- tools that ask by their answer, as the newer era does


def _question(message: str, **fields: str) -> t.ElicitRequest:
    properties = {name: {"type": kind} for name, kind in fields.items()}
    schema = {"type": "object", "properties": properties, "required": list(fields)}
    return t.ElicitRequest(params=t.ElicitRequestFormParams(message=message, requested_schema=schema))


def _sampling(prompt: str, max_tokens: int = 100) -> t.CreateMessageRequest:
    messages = [t.SamplingMessage(role="user", content=_text(prompt))]
    return t.CreateMessageRequest(params=t.CreateMessageRequestParams(messages=messages, max_tokens=max_tokens))


def _unanswered(
    ctx: Context[Any, Any], asked: dict[str, Any], state: str | None = None
) -> t.InputRequiredResult | None:
    """The questions once more, unless all of them are answered and the state came back as it was."""
    given = ctx.input_responses or {}
    if all(name in given for name in asked) and ctx.request_state == state:
        return None
    return t.InputRequiredResult(input_requests=asked, request_state=state)


def _said(ctx: Context[Any, Any], name: str) -> dict[str, Any]:
    answered = (ctx.input_responses or {})[name]
    return answered.model_dump(by_alias=True, exclude_none=True)


async def test_input_required_result_elicitation(ctx: Context[Any, Any]) -> Answer:
    """Ask for a name."""
    if question := _unanswered(ctx, {"user_name": _question("What is your name?", name="string")}):
        return question
    return _content(_text(f"Hello, {_said(ctx, 'user_name')['content']['name']}!"))


async def test_input_required_result_sampling(ctx: Context[Any, Any]) -> Answer:
    """Ask the client's model."""
    if question := _unanswered(ctx, {"capital_question": _sampling("What is the capital of France?")}):
        return question
    return _content(_text(_said(ctx, "capital_question")["content"]["text"]))


async def test_input_required_result_list_roots(ctx: Context[Any, Any]) -> Answer:
    """Ask for the client's roots."""
    if question := _unanswered(ctx, {"client_roots": t.ListRootsRequest()}):
        return question
    return _content(_text(f"Roots: {_said(ctx, 'client_roots')['roots']}"))


async def test_input_required_result_request_state(ctx: Context[Any, Any]) -> Answer:
    """Ask, and have a state carried along."""
    if question := _unanswered(ctx, {"confirm": _question("Please confirm", ok="boolean")}, "asked"):
        return question
    return _content(_text("state-ok"))


async def test_input_required_result_tampered_state(ctx: Context[Any, Any]) -> Answer:
    """Ask, and have a state carried along that nobody may change."""
    return await test_input_required_result_request_state(ctx)


async def test_input_required_result_multiple_inputs(ctx: Context[Any, Any]) -> Answer:
    """Ask three things at once."""
    asked = {
        "user_name": _question("What is your name?", name="string"),
        "greeting": _sampling("Generate a greeting", 50),
        "client_roots": t.ListRootsRequest(),
    }
    if question := _unanswered(ctx, asked, "three"):
        return question
    return _content(_text(f"{_said(ctx, 'greeting')['content']['text']} {_said(ctx, 'user_name')['content']['name']}"))


async def test_input_required_result_multi_round(ctx: Context[Any, Any]) -> Answer:
    """Ask, and ask again."""
    if (ctx.request_state or "first") == "first":
        question = _unanswered(ctx, {"step1": _question("Step 1: What is your name?", name="string")}, "first")
        if question is not None:
            return question
        asked = {"step2": _question("Step 2: What is your favorite color?", color="string")}
        return t.InputRequiredResult(input_requests=asked, request_state="second")
    asked = {"step2": _question("Step 2: What is your favorite color?", color="string")}
    return _unanswered(ctx, asked, "second") or _content(_text("Thank you."))


async def test_input_required_result_capabilities(ctx: Context[Any, Any]) -> Answer:
    """Ask only for what the client can do."""
    can, asked = ctx.client_capabilities, {}
    if can is not None and can.elicitation is not None:
        asked["user_name"] = _question("What is your name?", name="string")
    if can is not None and can.sampling is not None:
        asked["greeting"] = _sampling("Generate a greeting", 50)
    return (_unanswered(ctx, asked) if asked else None) or _content(_text("Nothing more to ask."))


async def test_streaming_elicitation(ctx: Context[Any, Any]) -> Answer:
    """Tell of progress, then ask."""
    await ctx.report_progress(1, 2)
    if question := _unanswered(ctx, {"user_name": _question("What is your name?", name="string")}):
        return question
    return _content(_text("Answered."))


async def test_missing_capability(ctx: Context[Any, Any]) -> Answer:
    """Need a model of the client's."""
    can = ctx.client_capabilities
    if can is None or can.sampling is None:
        needed = t.ClientCapabilities(sampling=t.SamplingCapability())
        data = t.MissingRequiredClientCapabilityErrorData(required_capabilities=needed)
        raise MCPError(
            code=t.MISSING_REQUIRED_CLIENT_CAPABILITY,
            message="This tool needs sampling, which the client did not declare.",
            data=data.model_dump(by_alias=True, mode="json", exclude_none=True),
        )
    return _content(_text("The client has a model."))


_TOOLS = (
    test_simple_text,
    test_image_content,
    test_audio_content,
    test_embedded_resource,
    test_multiple_content_types,
    test_error_handling,
    test_tool_with_logging,
    test_logging_tool,
    test_tool_with_progress,
    test_x_mcp_header,
    test_sampling,
    test_elicitation,
    test_elicitation_sep1034_defaults,
    test_elicitation_sep1330_enums,
    test_input_required_result_elicitation,
    test_input_required_result_sampling,
    test_input_required_result_list_roots,
    test_input_required_result_request_state,
    test_input_required_result_tampered_state,
    test_input_required_result_multiple_inputs,
    test_input_required_result_multi_round,
    test_input_required_result_capabilities,
    test_streaming_elicitation,
    test_missing_capability,
)

_SCHEMA_2020_12: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


async def _take_anything() -> t.CallToolResult:
    return _content(_text("Taken."))


# -- all of it, on the project's own server


def add_fixtures(server: MemoryServer) -> None:
    """Add the suite's tools, resources and prompts."""
    for function in _TOOLS:
        server.add_tool(function, structured_output=False)
    schema_tool = Tool.from_function(
        _take_anything,
        name="json_schema_2020_12_tool",
        description="Tool with JSON Schema 2020-12 features",
        structured_output=False,
    )
    schema_tool.parameters = _SCHEMA_2020_12
    server._tool_manager._tools[schema_tool.name] = schema_tool
    _add_resources(server)
    _add_prompts(server)


def _add_resources(server: MemoryServer) -> None:
    @server.resource("test://static-text", description="A text", mime_type="text/plain")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", description="An image", mime_type="image/png")
    def static_binary() -> bytes:
        return PNG

    @server.resource(WATCHED, description="A resource that can be watched", mime_type="text/plain")
    def watched() -> str:
        return "Nothing new."

    @server.resource("test://template/{id}/data", description="One of many", mime_type="application/json")
    def template(id: str) -> str:
        return f'{{"id":"{id}","templateTest":true,"data":"Data for ID: {id}"}}'


def _add_prompts(server: MemoryServer) -> None:
    @server.prompt(description="One text")
    def test_simple_prompt() -> str:
        return "This is a simple prompt for testing."

    @server.prompt(description="A text with two arguments")
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt(description="A resource and a text")
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[Message]:  # noqa: N803 - the suite's name
        return [
            UserMessage(_resource(resourceUri, "Embedded resource content for testing.")),
            UserMessage("Please process the embedded resource above."),
        ]

    @server.prompt(description="An image and a text")
    def test_prompt_with_image() -> list[Message]:
        return [UserMessage(IMAGE), UserMessage("Please analyze the image above.")]

    @server.prompt(description="A text about what the person says")
    async def test_input_required_result_prompt(ctx: Context[Any, Any]) -> Any:
        asked = {"user_context": _question("What context should the prompt use?", context="string")}
        return _unanswered(ctx, asked) or f"Use this context: {_said(ctx, 'user_context')['content']['context']}"


def with_sessions(server: MemoryServer) -> None:
    """Let clients of the older era keep a connection, over which the server may ask and tell."""
    build = server.streamable_http_app
    notices = Notices()

    def app(**options: Any) -> Any:
        return build(**{**options, "stateless_http": False, "json_response": False})

    async def subscribe(ctx: Any, params: t.SubscribeRequestParams) -> t.EmptyResult:
        return t.EmptyResult() if str(params.uri) == WATCHED else await notices.subscribe(ctx, params)

    async def set_level(_: Any, __: t.SetLevelRequestParams) -> t.EmptyResult:
        return t.EmptyResult()

    server.streamable_http_app = partial(app)  # type: ignore[method-assign]
    server.answer("resources/subscribe", t.SubscribeRequestParams, subscribe)
    server.answer("resources/unsubscribe", t.UnsubscribeRequestParams, notices.unsubscribe)
    server.answer("logging/setLevel", t.SetLevelRequestParams, set_level)


async def main() -> None:
    """Serve as `memory-mcp --http` does; the arguments are its own, and `--sessions`."""
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    settings = parse(["--http", *(word for word in sys.argv[1:] if word != "--sessions")])
    access = CoreAccess(lambda: open_configured(settings))
    server = build_server(access, state_key=settings.state_key(), sessions=False)
    add_fixtures(server)
    if "--sessions" in sys.argv:
        with_sessions(server)
    await serve_http(server, access, listen(settings.host, settings.port), settings)


if __name__ == "__main__":
    asyncio.run(main())
