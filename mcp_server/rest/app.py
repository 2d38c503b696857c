"""The REST application: finds the operation, checks the request against its models, answers in JSON."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from mcp_server.caller import Caller, caller_of
from mcp_server.identity import READ
from mcp_server.request_log import note_of
from mcp_server.rest.models import Detail
from mcp_server.rest.openapi import document
from mcp_server.rest.operations import OPERATIONS, Operation
from mcp_server.rest.problems import ProblemError, of_error, of_validation
from memory_plugin.errors import MemoryPluginError

if TYPE_CHECKING:
    from mcp_server.access import CoreAccess
    from mcp_server.settings import ServerSettings

logger = logging.getLogger(__name__)

_BASE = "/api/v1"
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_PROGRAM = "rest"


class RestApp:
    """Answers what is below /api/v1; who asks is known by then.

    Args:
        max_body: bytes that the body of a request may have.
    """

    def __init__(self, access: CoreAccess, settings: ServerSettings, *, max_body: int) -> None:
        self._access = access
        self._max_body = max_body
        self._operations: Sequence[Operation] = [
            each for each in OPERATIONS if each.scope == READ or not settings.read_only
        ]
        self._document = document(self._operations, settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ProblemError as problem:
            response = _response(problem.body, problem.status, problem.headers)
        except MemoryPluginError as error:
            response = _failed(error)
            if response.status_code >= 500:
                logger.warning("%s failed: %s", note_of(scope).what, error)
        except ClientDisconnect:
            return
        except Exception:  # a border: whatever went wrong is answered in our shape, and told in the log
            logger.exception("%s failed", note_of(scope).what)
            response = _failed(MemoryPluginError())
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        segments = _segments(request)
        if segments == ["openapi.json"]:
            if request.method != "GET":
                raise _wrong_method(["GET"])
            return JSONResponse(self._document, headers={"cache-control": "public, max-age=300"})
        operation, placed = self._find(request.method, segments)
        note_of(request.scope).what = f"{_BASE}{operation.path}"
        caller = await caller_of(self._access, _PROGRAM)
        _allow(caller, operation)
        asked: list[BaseModel] = []
        if operation.where is not None:
            asked.append(_checked(operation.where, placed, "path"))
        query = _query(request)
        if operation.query is not None:
            asked.append(_checked(operation.query, query, "query"))
        elif query:
            raise ProblemError(422, "invalid", "This operation takes nothing in its query.")
        if operation.body is not None:
            asked.append(await self._body(request, operation.body))
        answer = await operation.run(caller, *asked)
        return _response(answer, 200)

    def _find(self, method: str, segments: list[str]) -> tuple[Operation, dict[str, str]]:
        matching = [each for each in self._operations if _matches(each.segments, segments)]
        if not matching:
            raise ProblemError(
                404, "not_found", f"There is nothing here: {_BASE}/openapi.json describes what there is."
            )
        for operation in matching:
            if operation.method == method:
                names = (name.strip("{}") if name.startswith("{") else None for name in operation.segments)
                return operation, {name: value for name, value in zip(names, segments, strict=True) if name}
        raise _wrong_method([each.method for each in matching])

    async def _body(self, request: Request, model: type[BaseModel]) -> BaseModel:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ProblemError(415, "not_json", "Send JSON, and say so: Content-Type: application/json.")
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._max_body:
            raise self._too_large()
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._max_body:
                raise self._too_large()
        try:
            return model.model_validate_json(bytes(body))
        except ValidationError as error:
            if error.errors(include_input=False, include_url=False)[0]["type"] == "json_invalid":
                raise ProblemError(400, "not_json", "The body is no JSON document in UTF-8.") from None
            raise of_validation(error, "body") from None

    def _too_large(self) -> ProblemError:
        return ProblemError(
            413, "too_large", f"The body may have {self._max_body:,} bytes.", headers={"connection": "close"}
        )


def _allow(caller: Caller, operation: Operation) -> None:
    if operation.scope not in caller.scopes:
        raise ProblemError(403, "insufficient_scope", f"This needs a token with the scope {operation.scope}.")


def _wrong_method(methods: Sequence[str]) -> ProblemError:
    allowed = ", ".join(methods)
    return ProblemError(405, "wrong_method", f"This takes {allowed} alone.", headers={"allow": allowed})


def _segments(request: Request) -> list[str]:
    """The path below /api/v1, segment by segment, each decoded by itself: an id may have any character in it."""
    raw = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    path = raw.decode("latin-1").partition("?")[0].removeprefix(_BASE).removeprefix("/")
    try:
        return [unquote(segment, errors="strict") for segment in path.split("/")]
    except UnicodeDecodeError:
        raise ProblemError(400, "not_text", "The path is not UTF-8.") from None


def _matches(pattern: Sequence[str], segments: Sequence[str]) -> bool:
    return len(pattern) == len(segments) and all(
        bool(given) if wanted.startswith("{") else wanted == given
        for wanted, given in zip(pattern, segments, strict=True)
    )


def _query(request: Request) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            request.scope["query_string"].decode("latin-1"), keep_blank_values=True, errors="strict", max_num_fields=50
        )
    except ValueError:
        raise ProblemError(400, "not_text", "The query is not UTF-8, or has too many fields.") from None
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for place, (name, _) in enumerate(pairs) if name in dict(pairs[:place]))
        raise ProblemError(
            422, "invalid", "A field is there twice.", details=[Detail(where=f"query.{twice}", what="once is enough")]
        )
    return found


def _checked(model: type[BaseModel], values: dict[str, str], place: str) -> BaseModel:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise of_validation(error, place) from None


def _failed(error: MemoryPluginError) -> Response:
    problem = of_error(error)
    return _response(problem.body, problem.status, problem.headers)


def _response(body: BaseModel, status: int, headers: dict[str, Any] | None = None) -> Response:
    content = body.model_dump_json(exclude_none=status >= 400)
    return Response(content, status, {**_HEADERS, **(headers or {})}, media_type="application/json")
