"""What the server does → figures for Prometheus, and lines of the log for streams. No transcripts in either."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from asr.errors import DependencyError
from asr.serving.log import log

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from asr.serving.live import Live, StreamFacts
    from asr.serving.pool import Pool

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)


class Metrics:
    """Counters of one server."""

    def __init__(self, pool: Pool, in_progress: Callable[[], int], live: Live) -> None:
        """Begin to count; `in_progress` returns the number of requests that have been accepted and not answered.

        Raises:
            DependencyError: prometheus_client is not installed.
        """
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        except ImportError:
            raise DependencyError("the server needs prometheus_client: pip install 'asr[serve]'") from None
        self.registry: CollectorRegistry = CollectorRegistry()
        kept: dict[str, Any] = {"registry": self.registry}
        self._requests = Counter("asr_requests", "Requests that were answered.", ["path", "status"], **kept)
        self._audio_s = Counter("asr_audio_seconds", "Seconds of audio that were transcribed.", ["model"], **kept)
        self._seconds = Histogram(
            "asr_request_seconds", "Time from the first byte to the answer.", ["path"], buckets=_SECONDS, **kept
        )
        self._wait_s = Histogram(
            "asr_wait_seconds", "Time for which files waited for a worker.", buckets=_SECONDS, **kept
        )
        deaths = Counter("asr_worker_deaths", "Worker processes that have died.", **kept)
        Gauge("asr_requests_in_progress", "Requests that are received, wait or are at work.", **kept).set_function(
            in_progress
        )
        Gauge("asr_requests_waiting", "Files that wait for a worker.", **kept).set_function(lambda: pool.waiting)
        Gauge("asr_workers_ready", "Worker processes that have loaded the models.", **kept).set_function(
            lambda: len(pool.workers)
        )
        Gauge("asr_streams", "Streams that are open.", **kept).set_function(lambda: live.streams)
        live.on_end = self.streamed
        pool.on_wait = self._wait_s.observe
        pool.on_death = deaths.inc

    def answered(self, path: str, status: int, wall_s: float) -> None:
        """Count an answer."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(wall_s)

    def streamed(self, facts: StreamFacts) -> None:
        """Count a stream that has ended, and log it."""
        self.answered("/v1/stream", facts.code, facts.wall_s)
        if facts.audio_s:
            self.transcribed(facts.model, facts.audio_s)
        error = {"error": facts.error} if facts.error else {}
        seconds = {"audio_s": round(facts.audio_s, 3), "wall_s": round(facts.wall_s, 3)}
        log(path="/v1/stream", status=facts.code, model=facts.model, **seconds, **error)

    def transcribed(self, model: str, audio_s: float) -> None:
        """Count audio that was transcribed."""
        self._audio_s.labels(model).inc(audio_s)

    def text(self) -> tuple[bytes, str]:
        """Return the figures and their media type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self.registry), CONTENT_TYPE_LATEST
