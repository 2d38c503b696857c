"""What can go wrong with a REST request, in one shape, each with its status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from mcp_server.oauth import KeysUnavailableError
from mcp_server.rest.models import Detail, Failure, Problem
from memory_plugin.errors import (
    ConfigurationError,
    ConflictError,
    ContentTooLargeError,
    DatabaseUnavailableError,
    EmbeddingError,
    InvalidInputError,
    MemoryPluginError,
    NotFoundError,
    OutcomeUnknownError,
    StorageFullError,
)

# the first that fits counts: those further down in the tree of errors come first
_KINDS: Sequence[tuple[type[MemoryPluginError], int, str]] = (
    (NotFoundError, 404, "not_found"),
    (ContentTooLargeError, 413, "too_large"),
    (InvalidInputError, 422, "invalid"),
    (ConflictError, 409, "conflict"),
    (StorageFullError, 507, "storage_full"),
    (OutcomeUnknownError, 503, "outcome_unknown"),
    (DatabaseUnavailableError, 503, "unavailable"),
    (KeysUnavailableError, 503, "unavailable"),
    (EmbeddingError, 503, "unavailable"),
    (ConfigurationError, 500, "misconfigured"),
)


class ProblemError(Exception):
    """A request that is answered by an error.

    Args:
        code: one word for programs.
        message: one sentence for people.
        details: the parts of the request that are wrong.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Sequence[Detail] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body = Problem(error=Failure(code=code, message=message, details=list(details) if details else None))


def of_error(error: MemoryPluginError) -> ProblemError:
    """How an error of the library is answered."""
    for kind, status, code in _KINDS:
        if isinstance(error, kind):
            retry = {"retry-after": "1"} if status == 503 else None
            return ProblemError(status, code, " ".join(str(error).split()), headers=retry)
    return ProblemError(500, "failed", "The memory could not do this: its log says why.")


def of_validation(error: ValidationError, place: str) -> ProblemError:
    """How a request that does not fit its description is answered; what was sent is not repeated."""
    details = [
        Detail(where=".".join([place, *map(str, each["loc"])]), what=each["msg"])
        for each in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return ProblemError(422, "invalid", f"The {place} of the request is not as described.", details=details[:20])
