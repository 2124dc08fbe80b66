"""Published test errors to hold a result against.

Source: He et al. 2016, "Identity Mappings in Deep Residual Networks" (arXiv:1603.05027),
tables 2, 3 and 4: median of five runs, batch 128.
"""

from __future__ import annotations

from typing import Any

# (data set, network) -> test error, %.
TEST_ERRORS = {
    ("cifar10", "resnet110"): 6.61,
    ("cifar10", "preact_resnet110"): 6.37,
    ("cifar10", "resnet164"): 5.93,
    ("cifar10", "preact_resnet164"): 5.46,
    ("cifar10", "resnet1001"): 7.61,
    ("cifar10", "preact_resnet1001"): 4.92,
    ("cifar100", "resnet164"): 25.16,
    ("cifar100", "preact_resnet164"): 24.33,
    ("cifar100", "resnet1001"): 27.82,
    ("cifar100", "preact_resnet1001"): 22.71,
}
SOURCE = "He et al. 2016, arXiv:1603.05027, median of five runs of 64,000 steps"


def lookup(dataset: str, network: str) -> dict[str, Any] | None:
    """The published result of a network, or None where the paper has none.

    Args:
        dataset: "cifar10", "cifar100" (fine classes), ...
        network: A name without options, e.g. "preact_resnet164".

    Returns:
        `error` (a fraction) and `source`.
    """
    error = TEST_ERRORS.get((dataset, network))
    return None if error is None else {"error": error / 100, "source": SOURCE}
