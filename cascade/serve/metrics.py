"""What Prometheus reads: requests, walks, what waits, and which model answers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from cascade.encoders.contract import counts

_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One set for each service, in a registry of its own."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "cascade_requests", "Requests answered.", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "cascade_request_seconds",
            "From the head of a request to the head of its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.texts = Counter("cascade_texts", "Texts answered.", registry=registry)
        self.batch = Histogram("cascade_walk_texts", "Texts of a walk.", buckets=_TEXTS, registry=registry)
        self.walk = Histogram("cascade_walk_seconds", "Time of a walk.", buckets=_SECONDS, registry=registry)
        self.waiting = Gauge("cascade_waiting_texts", "Texts that are not answered yet.", registry=registry)
        self.reloads = Gauge("cascade_model_swaps", "Models that took another's place.", registry=registry)
        self.failures = Gauge(
            "cascade_model_failures", "Models that came and could not be loaded.", registry=registry
        )
        self.encoded = Gauge("cascade_encoded_texts", "Texts that were encoded.", registry=registry)
        self.kept = Gauge(
            "cascade_kept_vectors", "Texts whose vectors were there already.", registry=registry
        )
        self.spared = Gauge(
            "cascade_first_look_texts",
            "Texts that words alone answered, without a vector.",
            registry=registry,
        )
        self.taken_apart = Gauge(
            "cascade_taken_apart_texts",
            "Texts without a piece that were encoded to tell evidence.",
            registry=registry,
        )
        self.model = Gauge("cascade_model", "1 for the model that answers.", ["digest"], registry=registry)

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(path, str(status)).inc()
        self.seconds.labels(path).observe(seconds)

    def count_walk(self, texts: int, seconds: float) -> None:
        """Count a walk."""
        self.texts.inc(texts)
        self.batch.observe(texts)
        self.walk.observe(seconds)

    def render(self, digest: str) -> bytes:
        """All of them as Prometheus reads it."""
        self.encoded.set(counts.encoded)
        self.kept.set(counts.kept)
        self.spared.set(counts.spared)
        self.taken_apart.set(counts.taken_apart)
        self.model.clear()
        self.model.labels(digest).set(1)
        return generate_latest(self._registry)
