"""One span per request for OpenTelemetry, on demand: nothing is sent anywhere unless ``serve --traces`` is given."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import Scope

from encoder_tools.extras import require_extra
from service.request_context import Call

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_EXTRA = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


class Tracing:
    """Turns requests that are over into spans, children of the caller's where it sends a ``traceparent``.

    Attributes are those of the semantic conventions for HTTP servers, and ``encoder_tools.model.tokenizer``,
    ``encoder_tools.truncated_inputs`` and ``encoder_tools.stage.NAME`` (milliseconds). Neither texts nor keys are sent.

    :param provider: makes and exports the spans.
    """

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider, self._kind = provider, SpanKind.SERVER
        self._tracer = provider.get_tracer("encoder_tools")
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def from_environment(cls) -> Tracing:
        """Spans by OTLP over HTTP, to where OpenTelemetry's own variables say.

        ``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_SERVICE_NAME``, ...

        :raises MissingExtraError: if the extra "otel" is not installed.
        """
        require_extra("otel", *_EXTRA)
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create()
        if str(resource.attributes["service.name"]).startswith("unknown_service"):  # no variable names it
            resource = Resource.create({"service.name": "encoder-tools"})
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    def __call__(self, scope: Scope, call: Call, status: int, seconds: float) -> None:
        """A request is over."""
        end = time.time_ns()
        headers = Headers(scope=scope)
        context = self._propagator.extract({name: headers[name] for name in self._propagator.fields if name in headers})
        span = self._tracer.start_span(
            f"{scope['method']} {call.route}",
            context=context,
            kind=self._kind,
            start_time=end - int(1e9 * seconds),
            attributes=_attributes(scope, call, status),
        )
        call.trace_id = f"{span.get_span_context().trace_id:032x}"
        if status >= 500:
            from opentelemetry.trace import StatusCode

            span.set_status(StatusCode.ERROR)
        span.end(end)

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()


def _attributes(scope: Scope, call: Call, status: int) -> dict[str, str | int | float]:
    client = scope.get("client")
    return {
        "http.request.method": scope["method"],
        "http.response.status_code": status,
        "http.route": call.route,
        "url.path": scope["path"],
        "url.scheme": scope.get("scheme", "http"),
        **({"client.address": client[0]} if client else {}),
        "encoder_tools.request_id": call.id,
        "encoder_tools.model.tokenizer": call.tokens,
        "encoder_tools.truncated_inputs": call.truncated,
        **{f"encoder_tools.stage.{name}": round(1000 * took, 3) for name, took in call.stages.items()},
    }
