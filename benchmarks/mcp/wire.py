"""Talking to a server with nothing in between that would take time of its own: JSON by line, or by request."""

from __future__ import annotations

import http.client
import json
import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, Self

PATIENCE = 60.0
"""Seconds that any answer may take."""

VERSION = "2025-11-25"
"""The newest of the protocol that all servers here speak."""

_HELLO = {
    "protocolVersion": VERSION,
    "capabilities": {},
    "clientInfo": {"name": "benchmark", "version": "1"},
}


class NoAnswerError(RuntimeError):
    """A server ended, kept silent, or answered with an error."""


class Session(Protocol):
    """A server that can be called."""

    process: subprocess.Popen[bytes]

    def call(self, method: str, params: Mapping[str, Any]) -> Any:
        """The result of one request. Raises NoAnswerError."""

    def close(self) -> None:
        """End the server."""


def _spawn(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the servers that are measured
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _result(answer: Mapping[str, Any]) -> Any:
    if "error" in answer:
        raise NoAnswerError(f"The server refused: {answer['error']}")
    return answer["result"]


def _request(number: int, method: str, params: Mapping[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()


class Stdio:
    """A server on its standard input and output, a line to a message."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.process = _spawn(command, environment)
        self._sent = 0
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hello(self) -> None:
        """The handshake, up to its answer."""
        self.call("initialize", _HELLO)

    def ready(self) -> None:
        """Tell the server that requests follow."""
        self._write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')

    def call(self, method: str, params: Mapping[str, Any]) -> Any:
        """The result of one request. Raises NoAnswerError."""
        self._sent += 1
        self._write(_request(self._sent, method, params))
        while True:
            answer = json.loads(self._line())
            if answer.get("id") == self._sent and "method" not in answer:
                return _result(answer)

    def _write(self, message: bytes) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(message + b"\n")
        except BrokenPipeError as error:
            raise NoAnswerError("The server has ended.") from error

    def _line(self) -> bytes:
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        while b"\n" not in self._read:
            if not select.select([descriptor], [], [], PATIENCE)[0]:
                raise NoAnswerError(f"The server did not answer within {PATIENCE:.0f} seconds.")
            more = os.read(descriptor, 1 << 16)
            if not more:
                raise NoAnswerError("The server ended without an answer.")
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line

    def close(self) -> None:
        """End the input, and the server if it does not end by itself."""
        _end(self.process)


class Http:
    """A server of streamable HTTP without sessions, over one connection that stays."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], port: int) -> None:
        self.process = _spawn(command, environment)
        self._sent = 0
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            self._connect()
        except NoAnswerError:
            self.close()
            raise

    def _connect(self) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._connection.connect()
            except OSError as error:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise NoAnswerError("The server does not listen.") from error
                time.sleep(0.05)
            else:
                return

    def call(self, method: str, params: Mapping[str, Any]) -> Any:
        """The result of one request. Raises NoAnswerError."""
        self._sent += 1
        headers = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": VERSION,
        }
        self._connection.request("POST", "/mcp", _request(self._sent, method, params), headers)
        response = self._connection.getresponse()
        body = response.read()
        if response.status != http.client.OK:
            raise NoAnswerError(f"The server answered with status {response.status}: {body[:200]!r}")
        return _result(json.loads(body))

    def close(self) -> None:
        """End the server."""
        self._connection.close()
        self.process.terminate()
        _end(self.process)
