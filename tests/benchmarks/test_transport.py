"""The benchmark of gRPC's servers: that all three answer."""

import pytest

from benchmarks import transport
from serving.client import messages


def test_answer_is_read_as_a_prediction():
    assert len(transport.ANSWER) == 151
    messages.PredictResponse.FromString(transport.ANSWER)


@pytest.mark.bench
def test_quick_run_measures_all_three():
    result = transport.measure(seconds=0.5, pairs=1)
    assert set(result["servers"]) == set(transport.WAYS)
    for found in result["servers"].values():
        assert found["p50_ms"] > 0
        assert found["cpu_ms"] > 0
