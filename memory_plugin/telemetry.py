"""Spans and measurements of one store, over the OpenTelemetry API.

Nothing is sent anywhere by this library: that is up to the providers that the application, or
`opentelemetry-instrument`, sets up. Where telemetry is off nothing here runs, and OpenTelemetry is
not imported.

What goes out are names of operations, numbers and kinds of errors. Texts, queries, values, keys and
messages of errors never do; ids only where `ids` asks for them.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from memory_plugin.errors import ConfigurationError, DatabaseError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import Link, Span, Tracer, TracerProvider

SCOPE = "memory_plugin"
"""The name of the instrumentation scope, and of our own attributes and metrics."""

OPERATION = f"{SCOPE}.operation"
ERROR_TYPE = "error.type"

SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
"""Bounds of the histograms, those that the conventions for databases advise."""

_under_way: ContextVar[Operation | None] = ContextVar("memory_plugin_operation", default=None)


def retried(error: BaseException | None) -> None:
    """Note that the operation under way is tried again because of this error, where anybody measures it."""
    operation = _under_way.get()
    if operation is not None:
        operation.retried(error)


_links: ContextVar[tuple[Link, ...]] = ContextVar("memory_plugin_links", default=())


def links() -> tuple[Link, ...]:
    """The other callers of a statement that runs for several."""
    return _links.get()


def under_way() -> Operation | None:
    """The operation that this code is part of, where it is measured."""
    return _under_way.get()


def kind_of(error: BaseException) -> str:
    """What an error goes by: its class; never its message, which may quote what somebody wrote."""
    return type(error).__qualname__


class Telemetry:
    """Where the spans and measurements of a store go.

    Args:
        tracer_provider: None takes the global one.
        meter_provider: None takes the global one.
        ids: put the ids of users, threads and memories on spans too. They may be personal data.

    Raises:
        ConfigurationError: the OpenTelemetry API is not installed.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        ids: bool = False,
    ) -> None:
        try:
            from opentelemetry import trace
        except ImportError as error:
            raise ConfigurationError(
                "Telemetry is on, but the OpenTelemetry API is not installed: "
                "install memory-plugin[otel], or unset MEMORY_TELEMETRY."
            ) from error
        self.ids = ids
        self.tracer: Tracer = trace.get_tracer(SCOPE, _version(), tracer_provider)
        self.instruments = _instruments(meter_provider)

    def operation(self, name: str, span_name: str, attributes: Mapping[str, Any]) -> Operation:
        """An operation of a caller, to be entered: what runs inside belongs to it."""
        return Operation(self, name, span_name, attributes)


class Operation:
    """What a caller asked of the store: one span, and one measurement of its time.

    It is entered by `with`, once for the whole or, for what is given piece by piece, once for each
    piece with `end` at the end.
    """

    __slots__ = ("_attributes", "_began", "_error", "_seconds", "_telemetry", "_tokens", "name", "span")

    def __init__(self, telemetry: Telemetry, name: str, span_name: str, attributes: Mapping[str, Any]) -> None:
        self._telemetry = telemetry
        self.name = name
        self.span: Span = telemetry.tracer.start_span(span_name, attributes=attributes)
        self._attributes: dict[str, Any] = {OPERATION: name}
        self._seconds = 0.0
        self._began = 0.0
        self._error: BaseException | None = None
        self._tokens: tuple[Token[Context], Token[Operation | None]] | None = None

    def enter(self) -> None:
        """Make it the operation under way."""
        from opentelemetry import context, trace

        self._tokens = context.attach(trace.set_span_in_context(self.span)), _under_way.set(self)
        self._began = time.perf_counter()

    def leave(self) -> None:
        """Make it no more the one under way."""
        from opentelemetry import context

        self._seconds += time.perf_counter() - self._began
        assert self._tokens is not None
        token, mine = self._tokens
        with contextlib.suppress(ValueError):  # a coroutine that was never finished ends in another context
            _under_way.reset(mine)
            context.detach(token)

    def end(self, error: BaseException | None = None) -> None:
        """It is over; the time that it was under way is measured."""
        if error is not None:
            failed(self.span, error)
            self._attributes[ERROR_TYPE] = kind_of(error)
        self.span.end()
        self._telemetry.instruments.operations.record(self._seconds, self._attributes)

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
        self.end(error)

    def note(self, **attributes: Any) -> None:
        """Put attributes of our own on the span."""
        for name, value in attributes.items():
            self.span.set_attribute(f"{SCOPE}.{name}", value)

    def retried(self, error: BaseException | None) -> None:
        """An event on the span, and one more in the counter."""
        attributes = {} if error is None else {ERROR_TYPE: kind_of(error)}
        self.span.add_event("retry", attributes)
        self._telemetry.instruments.retries.add(1, {OPERATION: self.name, **attributes})


class Callers:
    """Whose a statement is that runs for several callers: the first one's, with links to the others."""

    def caller(self) -> tuple[Context, Operation | None]:
        """Who calls now."""
        from opentelemetry import context

        return context.get_current(), _under_way.get()

    @contextlib.contextmanager
    def joined(self, callers: Sequence[tuple[Context, Operation | None]]) -> Iterator[None]:
        """Run for these."""
        from opentelemetry import context, trace

        (first, operation), *others = callers
        spans = [trace.get_current_span(other).get_span_context() for other, _ in others]
        attached, mine = context.attach(first), _under_way.set(operation)
        linked = _links.set(tuple(trace.Link(span) for span in spans if span.is_valid))
        try:
            yield
        finally:
            _links.reset(linked)
            _under_way.reset(mine)
            context.detach(attached)


def failed(span: Span, error: BaseException) -> None:
    """Mark a span as failed, without the error's message: it may quote what somebody wrote."""
    from opentelemetry.trace import StatusCode

    span.set_status(StatusCode.ERROR)
    span.set_attribute(ERROR_TYPE, kind_of(error))
    if isinstance(error, DatabaseError) and error.sqlstate is not None:
        span.set_attribute("db.response.status_code", error.sqlstate)


Count = tuple[int, Mapping[str, Any]]
"""A number, and the attributes it goes by."""


class PoolCounts:
    """What is read of a pool of connections whenever measurements are collected.

    Args:
        name: what the pool is called.
        read: connections in use, idle ones, those at the most, and callers in line.
    """

    def __init__(self, name: str, read: Callable[[], tuple[int, int, int, int]]) -> None:
        self._of_pool = {"db.client.connection.pool.name": name}
        self._read = read

    def connections(self) -> list[Count]:
        """By state."""
        used, idle, _, _ = self._read()
        state = "db.client.connection.state"
        return [(used, self._of_pool | {state: "used"}), (idle, self._of_pool | {state: "idle"})]

    def most(self) -> list[Count]:
        """How many there may be."""
        return [(self._read()[2], self._of_pool)]

    def pending(self) -> list[Count]:
        """Callers that wait for one."""
        return [(self._read()[3], self._of_pool)]


class Instruments:
    """The counters and histograms; one set for each provider, shared by the stores of a process."""

    def __init__(self, provider: MeterProvider | None) -> None:
        from opentelemetry import metrics

        meter = metrics.get_meter(SCOPE, _version(), provider)
        self._pools: set[PoolCounts] = set()
        self._lock = threading.Lock()  # measurements are collected on a thread of the reader's
        self.operations = meter.create_histogram(
            f"{SCOPE}.operation.duration",
            "s",
            "How long operations of the store took.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self.statements = meter.create_histogram(
            "db.client.operation.duration",
            "s",
            "Duration of database client operations.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self.waits = meter.create_histogram(
            "db.client.connection.wait_time",
            "s",
            "The time it took to obtain an open connection from the pool, where none was idle.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self.timeouts = meter.create_counter(
            "db.client.connection.timeouts", "{timeout}", "Callers that waited for a connection in vain."
        )
        self.retries = meter.create_counter(f"{SCOPE}.retries", "{retry}", "Attempts after the first one.")
        self.checkpoints = meter.create_counter(f"{SCOPE}.checkpoints.stored", "{checkpoint}", "Checkpoints stored.")
        self.messages = meter.create_counter(
            f"{SCOPE}.messages.stored", "{message}", "Messages stored by checkpoints and by chat history."
        )
        self.memories = meter.create_counter(
            f"{SCOPE}.memories.remembered", "{memory}", "Facts given to remember, by what became of them."
        )
        self.items = meter.create_counter(f"{SCOPE}.items.put", "{item}", "Items put or deleted through a store face.")
        self.hits = meter.create_counter(f"{SCOPE}.hits", "{hit}", "What searches found, by kind.")
        self.texts = meter.create_counter(f"{SCOPE}.texts.embedded", "{text}", "Texts turned into vectors.")
        self.embedder_failures = meter.create_counter(
            f"{SCOPE}.embedder.failures", "{failure}", "Calls of the embedder that failed."
        )
        self.queue = meter.create_gauge(
            f"{SCOPE}.index.queue", "{passage}", "What waited for the index after its last run: for words, for vectors."
        )
        meter.create_observable_up_down_counter(
            "db.client.connection.count",
            [self._reader(PoolCounts.connections)],
            "{connection}",
            "Connections in the state that the attribute says.",
        )
        meter.create_observable_up_down_counter(
            "db.client.connection.max", [self._reader(PoolCounts.most)], "{connection}", "Connections at the most."
        )
        meter.create_observable_up_down_counter(
            "db.client.connection.pending_requests",
            [self._reader(PoolCounts.pending)],
            "{request}",
            "Callers that wait for a connection.",
        )

    def watch(self, pool: PoolCounts) -> Callable[[], None]:
        """Read this pool too, until the function that is given back is called."""
        with self._lock:
            self._pools.add(pool)
        return lambda: self._unwatch(pool)

    def _unwatch(self, pool: PoolCounts) -> None:
        with self._lock:
            self._pools.discard(pool)

    def _reader(
        self, counts: Callable[[PoolCounts], list[Count]]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        from opentelemetry.metrics import Observation

        def read(_: CallbackOptions) -> list[Observation]:
            with self._lock:
                pools = list(self._pools)
            totals: dict[tuple[tuple[str, Any], ...], int] = {}
            for pool in pools:
                for number, attributes in counts(pool):  # stores of one process may share a name
                    key = tuple(attributes.items())
                    totals[key] = totals.get(key, 0) + number
            return [Observation(number, dict(key)) for key, number in totals.items()]

        return read


_made: weakref.WeakKeyDictionary[Any, Instruments] = weakref.WeakKeyDictionary()
_global: list[Instruments] = []
_making = threading.Lock()


def _instruments(provider: MeterProvider | None) -> Instruments:
    """The instruments of a provider: a second observable of one name would never be read."""
    from opentelemetry import metrics

    with _making:
        if provider is None or provider is metrics.get_meter_provider():
            if not _global:  # also before the global provider is set: the API hands them over
                _global.append(Instruments(None))
            return _global[0]
        if provider not in _made:
            _made[provider] = Instruments(provider)
        return _made[provider]


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("memory-plugin")
    except PackageNotFoundError:
        return "0+unknown"
