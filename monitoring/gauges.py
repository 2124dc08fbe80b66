"""What Prometheus reads: of a file (node_exporter's textfile collector) or of `watch` itself.

The alerts and the dashboard that ask for these names are in serving/deploy/templates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import prometheus_client
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from monitoring.monitor import Report

_LABELS = ("model_name", "version")


def families(report: Report | None) -> Iterable[Metric]:
    """The metrics of a report; of none the names alone."""
    gauge, counter = _maker(GaugeMetricFamily), _maker(CounterMetricFamily)
    alarm = gauge("alarm", "1: two of the last three windows differ")
    differing = gauge(
        "window_differing_tests", "tests that differ in the newest window"
    )
    images = gauge("window_images", "images in the newest window")
    last = gauge("window_last_request_seconds", "Unix time of its newest request")
    published = gauge(
        "version_published_seconds", "Unix time, as the version's number tells it"
    )
    p_value = gauge("test_p_value", "of the newest window", "test")
    difference = gauge("test_difference", "of the newest window, 0 to 1", "test")
    estimated = gauge(
        "estimated_accuracy", "by confidence, no measurement; 95 % interval", "bound"
    )
    measured = gauge("accuracy", "by labels; 95 % interval (Wilson)", "bound")
    evaluated = gauge("eval_accuracy", "on the eval images")
    labelled = gauge("labelled_images", "that the accuracy is measured on")
    windows = counter("windows", "judged")
    unlike = counter("differing_windows", "in which a test differs")
    alarms = counter("alarms", "raised")
    answers = counter("answers", "images read from the request log")
    unused = CounterMetricFamily(
        "monitoring_unused_records", "of the request log, that could not be used"
    )
    made = GaugeMetricFamily("monitoring_made_seconds", "Unix time of this reading")
    if report is not None:
        unused.add_metric((), report.unused)
        made.add_metric((), report.made)
        for version, each in report.versions.items():
            own = (report.model, version)
            alarm.add_metric(own, each.alarm)
            windows.add_metric(own, each.judged)
            unlike.add_metric(own, each.differing)
            alarms.add_metric(own, each.alarms)
            answers.add_metric(own, each.images)
            if int(version) > 1_000_000_000:  # seconds; an operator's own number is not
                published.add_metric(own, int(version))
            if each.eval_accuracy is not None:
                evaluated.add_metric(own, each.eval_accuracy)
            if each.accuracy is not None:
                labelled.add_metric(own, each.accuracy.images)
                low, high = each.accuracy.interval
                for bound, value in zip(
                    _BOUNDS, (low, each.accuracy.value, high), strict=True
                ):
                    measured.add_metric((*own, bound), value)
            if not each.windows:
                continue
            newest = each.windows[-1]
            differing.add_metric(own, len(newest.differing))
            images.add_metric(own, newest.images)
            last.add_metric(own, newest.last)
            for test in newest.tests:
                p_value.add_metric((*own, test.name), test.p_value)
                difference.add_metric((*own, test.name), test.difference)
            for bound, value in zip(
                _BOUNDS, newest.estimated_accuracy or (), strict=False
            ):
                estimated.add_metric((*own, bound), value)
    yield from (alarm, differing, images, last, published, p_value, difference)
    yield from (estimated, measured, evaluated, labelled)
    yield from (windows, unlike, alarms, answers, unused, made)


_BOUNDS = ("low", "value", "high")


def _maker(family: type) -> Any:
    def make(name: str, what: str, *labels: str) -> Any:
        return family(f"monitoring_{name}", what, labels=(*_LABELS, *labels))

    return make


class Collector:
    """What a registry asks; `report` is the newest one."""

    def __init__(self) -> None:
        self.report: Report | None = None

    def collect(self) -> Iterable[Metric]:
        """As prometheus_client calls it."""
        return families(self.report)


def registry(collector: Collector) -> prometheus_client.CollectorRegistry:
    """A registry of these metrics alone."""
    made = prometheus_client.CollectorRegistry()
    made.register(collector)
    return made


def text(report: Report) -> bytes:
    """The page, in Prometheus's text format."""
    collector = Collector()
    collector.report = report
    return prometheus_client.generate_latest(registry(collector))
