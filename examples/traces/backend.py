"""A backend whose spans belong to the traces that ws2api passes on.

    python3 -m pip install opentelemetry-sdk
    python3 examples/traces/backend.py
    target/release/ws2api --config config/ws2api.toml --cores 0 --set trace_sampled=1

Each span is a line of JSON on standard output. For a collector, install opentelemetry-exporter-otlp-proto-http as well, and
say where it is: OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 (with a Jaeger or Grafana Tempo behind it). A push, and what became
of it, are one trace:

    curl -X POST -d '{"type":"Soft"}' http://127.0.0.1:5000/push/CP1/Reset
"""

import argparse
import json
import os
import time
import urllib.error
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult


class Lines(SpanExporter):
    """Prints each span as a line of JSON."""

    def export(self, spans):
        for span in spans:
            parent = trace.format_span_id(span.parent.span_id) if span.parent else None
            line = {
                "name": span.name,
                "trace": trace.format_trace_id(span.context.trace_id),
                "span": trace.format_span_id(span.context.span_id),
                "parent": parent,
                "ms": (span.end_time - span.start_time) / 1e6,
                **span.attributes,
            }
            print(json.dumps(line), flush=True)
        return SpanExportResult.SUCCESS


def tracer():
    provider = TracerProvider(resource=Resource.create({"service.name": "charging-backend"}))
    if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    else:
        provider.add_span_processor(SimpleSpanProcessor(Lines()))
    return provider.get_tracer("ws2api-example")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind, *names = [unquote(segment) for segment in self.path.strip("/").split("/")]
        if kind == "push" and len(names) == 2:
            return self.push(*names, body or b"{}")
        # Without a traceparent a span would begin a trace of its own: who is not sampled is not recorded.
        if "traceparent" not in self.headers:
            return self.answer(kind, names)
        # traceparent names the trace and the span before this one; ws2api has set it, or passes on what came with the push.
        context = propagate.extract({name.lower(): value for name, value in self.headers.items()})
        attributes = {"ocpp.client": self.headers.get("X-Client-Id", ""), "ocpp.message": names[-1] if names else ""}
        name = " ".join([kind, *names[:1]])
        with self.server.tracer.start_as_current_span(name, context, trace.SpanKind.SERVER, attributes):
            self.answer(kind, names)

    def answer(self, kind, names):
        if kind == "connect":
            self.send(200, "ok")
        elif kind == "call" and names[0] == "Heartbeat":
            self.send(200, {"currentTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
        elif kind == "call":
            self.send(200, {})
        else:
            self.send(204)

    def push(self, client, action, payload):
        """Pushes a Call to a client. Its outcome is posted here later, with the same trace."""
        with self.server.tracer.start_as_current_span(f"push {action}", kind=trace.SpanKind.CLIENT) as span:
            headers = {"Content-Type": "application/json"}
            propagate.inject(headers)
            url = f"{self.server.ingress}/call/{action}/{client}/{uuid.uuid4()}"
            try:
                with urllib.request.urlopen(urllib.request.Request(url, payload, headers)) as accepted:
                    status, answer = accepted.status, json.load(accepted)
            except urllib.error.HTTPError as refused:
                status, answer = refused.code, json.load(refused)
            span.set_attribute("http.response.status_code", status)
            self.send(status, {**answer, "trace": trace.format_trace_id(span.get_span_context().trace_id)})

    def send(self, status, value=None):
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--ingress", default="http://127.0.0.1:4001")
    arguments = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler)
    server.tracer, server.ingress = tracer(), arguments.ingress
    print(f"spans of what is asked at http://127.0.0.1:{arguments.port}:", flush=True)
    server.serve_forever()
