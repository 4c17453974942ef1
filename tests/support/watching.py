"""Monitor a deployment from outside: collect OpenTelemetry metrics, and shorten the deadline of the DAGs.

with Collector() as collector:
    LocalAirflow(home, collector.options | {"AIRFLOW__CORE__DAGS_FOLDER": str(dags_soon_late(folder))})
    collector.counters["airflow.clipdex.clips.indexed"]
"""

import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

REPOSITORY = Path(__file__).parents[2]
LATE_S = 1


class Collector:
    """Receive metrics by OTLP over HTTP.

    counters: sums of monotonic counters
    gauges: last values
    not_summed: counters with cumulative instead of delta temporality
    """

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.gauges: dict[str, float] = {}
        self.not_summed: set[str] = set()
        self._lock = threading.Lock()
        collector = self

        class Taking(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector._take(ExportMetricsServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
        self._server.daemon_threads = True

    @property
    def options(self) -> dict[str, str]:
        """Return the settings from docs/observability.md with the address of this collector."""
        return {
            "AIRFLOW__METRICS__OTEL_ON": "True",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",
        }

    def __enter__(self) -> "Collector":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _take(self, request: ExportMetricsServiceRequest) -> None:
        metrics = [
            one for resource in request.resource_metrics for scope in resource.scope_metrics for one in scope.metrics
        ]
        with self._lock:
            for one in metrics:
                if one.sum.is_monotonic:
                    self.counters[one.name] += sum(point.as_int for point in one.sum.data_points)
                    if one.sum.aggregation_temporality != AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA:
                        self.not_summed.add(one.name)
                for point in one.gauge.data_points:
                    self.gauges[one.name] = point.as_double or point.as_int


def dags_soon_late(folder: Path) -> Path:
    """Copy the DAGs with a deadline of LATE_S; return the folder."""
    folder.mkdir()
    for path in (REPOSITORY / "dags").glob("*.py"):
        text, found = re.subn(r"timedelta\(hours=12\)", f"timedelta(seconds={LATE_S})", path.read_text())
        assert found == (path.stem == "ingest_clips"), f"{path}: expected the deadline as timedelta(hours=12)"
        (folder / path.name).write_text(text)
    return folder


def said_late(airflow_home: Path, run: str) -> list[str]:
    """Return the triggerer's log lines about a late run."""
    logs = (airflow_home / "logs").rglob("*trigger*")
    lines = (line for log in logs if log.is_file() for line in log.read_text(errors="replace").splitlines())
    return [line for line in lines if f"{run} of " in line and "not searchable by" in line]
