"""Pre-activation ResNet in PyTorch, channels last: a rival of `benchmarks.train`.

Bottleneck units of He et al. 2016b, the same mathematics and parameters as
`trainer.network.build("preact_resnet<depth>", classes)`. PyTorch belongs to the dependency
group `bench` alone; nothing else imports this module.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

STAGE_WIDTHS = (16, 32, 64)
EXPANSION = 4


class Unit(nn.Module):
    """BN ReLU 1x1, BN ReLU 3x3, BN ReLU 1x1; the first of a stage has a projection."""

    def __init__(self, in_width: int, width: int, stride: int, *, first: bool):
        super().__init__()
        out_width = width * EXPANSION
        self.bn1 = nn.BatchNorm2d(in_width)
        self.conv1 = nn.Conv2d(in_width, width, 1, stride, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_width, 1, bias=False)
        self.projection = (
            nn.Conv2d(in_width, out_width, 1, stride, bias=False) if first else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Activations [batch, channels, height, width] after the unit."""
        active = functional.relu(self.bn1(x), inplace=True)
        shortcut = x if self.projection is None else self.projection(active)
        branch = self.conv1(active)
        branch = self.conv2(functional.relu(self.bn2(branch), inplace=True))
        branch = self.conv3(functional.relu(self.bn3(branch), inplace=True))
        return branch.add_(shortcut)


def build(depth: int, classes: int) -> nn.Module:
    """Images [batch, 3, 32, 32] -> logits [batch, classes]; `depth` is 9n+2."""
    units = (depth - 2) // 9
    modules: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False)]
    in_width = 16
    for stage, width in enumerate(STAGE_WIDTHS):
        for unit in range(units):
            stride = 2 if stage > 0 and unit == 0 else 1
            modules.append(Unit(in_width, width, stride, first=unit == 0))
            in_width = width * EXPANSION
    head = [nn.BatchNorm2d(in_width), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)]
    modules += [*head, nn.Flatten(), nn.Linear(in_width, classes)]
    for module in modules:
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    return nn.Sequential(*modules)


def prepare(  # noqa: PLR0913 - what one training step depends on
    depth: int,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    precision: str,
    learning_rate: float,
    threads: int,
    compiled: bool = False,
) -> tuple[Callable[[], float], int]:
    """Makes a network and its optimizer.

    Args:
        depth: 9n+2.
        images: float32 [batch, 32, 32, 3].
        labels: int64 [batch], below 10.
        precision: "float32", or "mixed_bfloat16" for autocast on CPU.
        learning_rate: Of momentum SGD with coupled decay.
        threads: That PyTorch uses.
        compiled: By torch.compile, else eager.

    Returns:
        One training step (its result is the loss), and the number of parameters.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = build(depth, classes=10).to(memory_format=torch.channels_last)
    model.train()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=learning_rate, momentum=0.9, weight_decay=1e-4
    )
    forward: Callable[[torch.Tensor], torch.Tensor] = (
        torch.compile(model) if compiled else model
    )
    # A transposed view of [batch, height, width, channels] is channels last as it stands.
    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    y = torch.from_numpy(labels)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        enabled = precision == "mixed_bfloat16"
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = forward(x)
        loss = functional.cross_entropy(logits.float(), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, sum(parameter.numel() for parameter in model.parameters())
