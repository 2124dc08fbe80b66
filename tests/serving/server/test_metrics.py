"""The metrics' text, read by prometheus_client's own parser."""

import threading

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from serving.server import metrics


def samples():
    """(name, labels without le) -> value, and histograms' buckets by limit."""
    values, buckets = {}, {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = dict(sample.labels)
            limit = labels.pop("le", None)
            # The parser puts "_total" after every counter's name that lacks it.
            name = sample.name.removesuffix("_total")
            key = name, frozenset(labels.items())
            if limit is None:
                values[key] = sample.value
            else:
                buckets.setdefault(key, {})[float(limit)] = sample.value
    return values, buckets


def value(name, **labels):
    key = name.removesuffix("_total"), frozenset(labels.items())
    return samples()[0].get(key, 0)


def test_requests_have_tensorflow_servings_names_and_labels():
    metrics.observe_request("names", "predict", "REST", "OK", 0.000_050)
    metrics.observe_request("names", "predict", "REST", "NOT_FOUND", 2000.0)
    text = metrics.render().decode()
    assert "# TYPE :tensorflow:serving:request_count counter\n" in text
    assert (
        ':tensorflow:serving:request_count{model_name="names",status="OK"} 1\n' in text
    )
    latency = (
        ':tensorflow:serving:request_latency{}{{model_name="names",API="predict",'
        'entrypoint="REST"'
    )
    for limit, count in (
        ("10", 0),
        ("18", 0),
        ("32.4", 0),
        ("58.32", 1),
        ("104.976", 1),
    ):
        line = latency.format("_bucket") + f',le="{limit}"}} {count}\n'
        assert line in text
    assert latency.format("_bucket") + ',le="+Inf"} 2\n' in text
    assert latency.format("_count") + "} 2\n" in text
    assert latency.format("_sum") + "} 2000000050\n" in text


def test_every_family_is_announced_with_its_type():
    types = {
        line.split()[2]: line.split()[3]
        for line in metrics.render().decode().splitlines()
        if line.startswith("# TYPE :")
    }
    assert types == {
        ":tensorflow:cc:saved_model:load_attempt_count": "counter",
        ":tensorflow:cc:saved_model:load_latency": "counter",
        ":tensorflow:core:graph_run_time_usecs": "counter",
        ":tensorflow:core:graph_runs": "counter",
        ":tensorflow:serving:batching_session:queuing_latency": "histogram",
        ":tensorflow:serving:batching_session:wrapped_run_count": "counter",
        ":tensorflow:serving:batching_session:processed_batch_size": "histogram",
        ":tensorflow:serving:batching_session:padding_size": "histogram",
        ":tensorflow:serving:model_warmup_latency": "histogram",
        ":tensorflow:serving:request_count": "counter",
        ":tensorflow:serving:request_example_count_total": "counter",
        ":tensorflow:serving:request_example_counts": "histogram",
        ":tensorflow:serving:request_latency": "histogram",
        ":tensorflow:serving:request_log_count": "counter",
        ":tensorflow:serving:runtime_latency": "histogram",
    }


def test_other_observations_are_counted():
    def all_values():
        path, model = {"model_path": "/m/1"}, {"model": "ex"}
        prefix = ":tensorflow:serving:"
        return [
            value(":tensorflow:cc:saved_model:load_attempt_count", **path, status="fail"),
            value(":tensorflow:cc:saved_model:load_latency", **path),
            value(prefix + "model_warmup_latency_count", **path, status="OK"),
            value(prefix + "request_example_count_total", **model),
            value(prefix + "request_example_counts_sum", **model),
            value(":tensorflow:core:graph_runs"),
            value(":tensorflow:core:graph_run_time_usecs"),
            value(
                prefix + "runtime_latency_sum",
                model_name="ex", API="Predict", runtime="TF2",
            ),
            value(prefix + "batching_session:wrapped_run_count"),
            value(prefix + "batching_session:processed_batch_size_sum"),
            value(prefix + "batching_session:padding_size_sum", execution_batch_size="32"),
            value(prefix + "batching_session:queuing_latency_count", thread_pool_name="q"),
            value("serving_batching_refused_total", thread_pool_name="q"),
        ]  # fmt: skip

    before = all_values()
    metrics.observe_load("/m/1", 9.0, succeeded=False)
    metrics.observe_load("/m/1", 0.5, succeeded=True)
    metrics.observe_warmup("/m/1", 0.25, "OK")
    metrics.observe_examples("ex", 12)
    metrics.observe_runtime("ex", "Predict", "TF2", 0.003)
    metrics.observe_batch(20, 32)
    metrics.observe_queueing("q", [0.001, 0.002])
    metrics.observe_refusal("q")
    grown = [now - then for now, then in zip(all_values(), before, strict=True)]
    assert grown == [1, 500_000, 1, 12, 12, 1, 3000, 3000, 1, 32, 12, 2, 1]


def test_process_is_described_too():
    assert value("process_resident_memory_bytes") > 1e6


@given(st.text(max_size=30))
def test_any_name_of_a_model_is_read_back(name):
    counter = metrics._Counter("c", "l")
    counter.add(name)
    text = "\n".join(counter.lines()) + "\n"
    (family,) = text_string_to_metric_families(text)
    assert [sample.labels for sample in family.samples] == [{"l": name}]


def test_invented_names_do_not_fill_the_memory():
    counter = metrics._Counter("c", "l")
    histogram = metrics._Histogram("h", "l", scale=1, growth=2, buckets=1)
    for i in range(3000):
        counter.add(f"invented-{i}")
        histogram.add(f"invented-{i}", values=[1])
    assert len(counter.lines()) == 1001
    assert 'c{l="other"} 2000' in counter.lines()
    assert 'h_count{l="other"} 2000' in histogram.lines()


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=20))
def test_buckets_are_cumulative_and_inclusive(microseconds):
    histogram = metrics._Histogram("h", "l", scale=10, growth=1.8, buckets=33)
    histogram.add("x", values=microseconds)
    counts = {}
    for line in histogram.lines():
        if line.startswith("h_bucket"):
            limit, count = line.split('le="')[1].split('"} ')
            counts[limit] = int(count)
    assert list(counts.values()) == sorted(counts.values())
    assert counts["+Inf"] == len(microseconds)
    for limit, exact in zip(counts, histogram._limits, strict=False):
        assert counts[limit] == sum(value <= exact for value in microseconds)


def test_counting_from_many_threads_loses_nothing():
    def count():
        for _ in range(2000):
            metrics.observe_request("threads", "predict", "GRPC", "OK", 0.001)

    before = value(
        ":tensorflow:serving:request_count", model_name="threads", status="OK"
    )
    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = value(
        ":tensorflow:serving:request_count", model_name="threads", status="OK"
    )
    assert after - before == 16_000


def test_labels_are_cut():
    before = len(metrics.render())
    metrics.observe_request("long" * 2**20, "predict", "GRPC", "OK", 0.001)
    metrics.observe_load("/long" * 2**20, 1.0, succeeded=True)
    assert len(metrics.render()) - before < 20_000
    name = ":tensorflow:serving:request_count"
    assert value(name, model_name="long" * 64, status="OK") == 1
