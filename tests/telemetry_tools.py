"""What a store gives to OpenTelemetry, kept in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from memory_plugin import Telemetry


class Recorded:
    """Providers of a test's own, and what they were given.

    Attributes:
        telemetry: to open a store with.
        tracer: for the spans of the application around it.
    """

    def __init__(self, *, ids: bool = False) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader])
        self.telemetry = Telemetry(tracer_provider=tracers, meter_provider=self.meters, ids=ids)
        self.tracer = tracers.get_tracer("application")

    def reset(self) -> None:
        """Forget the spans so far."""
        self._exporter.clear()

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """Those that have ended, in that order."""
        return self._exporter.get_finished_spans()

    def operations(self) -> list[str]:
        """The operations of the store, in the order they ended."""
        return [str(span.attributes["memory_plugin.operation"]) for span in self.spans if is_operation(span)]

    def operation(self, name: str) -> ReadableSpan:
        """The only one of this name."""
        (found,) = [
            span for span in self.spans if is_operation(span) and span.attributes["memory_plugin.operation"] == name
        ]
        return found

    def statements(self, parent: ReadableSpan | None = None) -> list[ReadableSpan]:
        """Statements, of one operation or of all."""
        found = [span for span in self.spans if "db.system.name" in (span.attributes or {})]
        return found if parent is None else [span for span in found if parent_of(span) == parent.context.span_id]

    def points(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """By metric: attributes, and the number, or how many measurements a histogram has."""
        data = self._reader.get_metrics_data()
        return {
            metric.name: [
                (dict(point.attributes), point.count if hasattr(point, "count") else point.value)
                for point in metric.data.data_points
            ]
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def number(self, metric: str, **attributes: str) -> Any:
        """The number at these attributes (dots as underscores), of what a metric says last; 0 where it says none."""
        wanted = {name.replace("__", "."): value for name, value in attributes.items()}
        return sum(value for given, value in self.points().get(metric, []) if wanted.items() <= given.items())

    def everything(self) -> str:
        """All that went out, as text."""
        spans = [json.loads(span.to_json()) for span in self.spans]
        return json.dumps([spans, self.points()], default=str)


def is_operation(span: ReadableSpan) -> bool:
    return "memory_plugin.operation" in (span.attributes or {})


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def attributes_of(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}
