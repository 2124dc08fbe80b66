"""Pre-activation ResNet as public Keras code writes it: one layer object per operation.

The rival of `benchmarks.train`: bottleneck units of He et al. 2016b, the same mathematics
and parameters as `trainer.network.build("preact_resnet<depth>", classes)`, from
`keras.layers` alone and without any loop, so that graph and start-up grow with depth.
"""

from __future__ import annotations

import keras
from keras import layers

from contract.datasets import PUBLISHED_SHAPE

STAGE_WIDTHS = (16, 32, 64)
EXPANSION = 4


def build(depth: int, classes: int) -> keras.Model:
    """Images float32 [batch, 32, 32, 3] -> logits float32 [batch, classes].

    Args:
        depth: 9n+2.
        classes: Width of the logits.
    """
    units = (depth - 2) // 9
    images = keras.Input(PUBLISHED_SHAPE)
    x = _conv(images, 16, 3)
    for stage, width in enumerate(STAGE_WIDTHS):
        for unit in range(units):
            stride = 2 if stage > 0 and unit == 0 else 1
            active = _activate(x)
            branch = _conv(active, width, 1, stride)
            branch = _conv(_activate(branch), width, 3)
            branch = _conv(_activate(branch), width * EXPANSION, 1)
            if unit == 0:  # the width changes: a projection of the activation
                x = _conv(active, width * EXPANSION, 1, stride)
            x = layers.Add()([x, branch])
    x = layers.GlobalAveragePooling2D()(_activate(x))
    return keras.Model(images, layers.Dense(classes)(x))


def _conv(x, width: int, kernel: int, stride: int = 1):
    return layers.Conv2D(
        width,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )(x)


def _activate(x):
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
    return layers.Activation("relu")(x)
