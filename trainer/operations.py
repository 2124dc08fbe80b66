"""Programs on tensors: what each step of `trainer.program` computes.

Comes in: a program, activations [batch, height, width, channels] and one unit's weights.
Goes out: activations, and in training mode the batch statistics that the moving statistics
take. Runs on TensorFlow and on JAX.
"""
# ruff: noqa: TID253 - Keras is what this file is about

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import ops

from trainer.program import Step

EPSILON = 1e-5  # of batch norm; the paper's and Torch's

Tensors = dict[str, Any]  # weight name inside its unit -> tensor


@dataclass
class Run:
    """One execution of a program."""

    weights: Tensors
    training: bool
    seed: Any = None  # int tensor [2], where the program has dropout
    synchronized: bool = False  # batch norm over all replicas' images
    # Filled while the program runs in training mode: "bn1/mean" -> batch mean, [channels].
    statistics: Tensors = field(default_factory=dict)


def interpret(program: Sequence[Step], x, run: Run) -> tuple[Any, Tensors]:
    """Runs a program on activations; returns the result and the batch statistics."""
    registers = {"x": x}
    for step in program:
        values = [registers[name] for name in step.reads]
        if step.op in SIMPLE:
            result = SIMPLE[step.op](*values)
        else:
            result = PARAMETRIC[step.op](step, run, *values)
        registers[step.writes] = result
    return registers["x"], run.statistics


def _conv(step: Step, run: Run, x):
    kernel = run.weights[f"{step.name}/kernel"]
    border = step.kernel // 2
    if border and step.stride > 1:
        # Torch and Caffe pad every side; "same" at stride 2 would pad right and bottom only.
        x = ops.pad(x, [[0, 0], [border, border], [border, border], [0, 0]])
    padding = "same" if border and step.stride == 1 else "valid"
    wide = padding == "same" and step.in_width >= _WIDE and step.bias is None
    if wide and run.training and keras.backend.backend() == "tensorflow":
        return _wide_conv(x, kernel)
    x = ops.conv(x, kernel, strides=step.stride, padding=padding, data_format=_NHWC)
    return x if step.bias is None else x + run.weights[f"{step.name}/bias"]


def _wide_conv(x, kernel):
    """A 3x3 convolution of stride 1 whose gradient is one, too, by the turned kernel.

    On a CPU TensorFlow's own operation for it takes, of 512 channels on 2 x 2 pixels, two
    thirds of all of ResNet-18's step.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def convolve(x, kernel):
        def gradients(upstream):
            turned = tf.transpose(kernel[::-1, ::-1], [0, 1, 3, 2])
            into_kernel = tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=tf.shape(kernel), out_backprop=upstream,
                strides=[1, 1, 1, 1], padding="SAME",
            )  # fmt: skip
            return tf.nn.conv2d(upstream, turned, 1, "SAME"), into_kernel

        return tf.nn.conv2d(x, kernel, 1, "SAME"), gradients

    # A variable would be a third thing to give a gradient of.
    return convolve(x, tf.identity(ops.cast(kernel, x.dtype)))


def _bn(step: Step, run: Run, x):
    gamma, beta = (run.weights[f"{step.name}/{role}"] for role in ("gamma", "beta"))
    if not run.training:
        mean, var = (run.weights[f"{step.name}/{role}"] for role in ("mean", "var"))
        return _normalise(x, gamma, beta, mean, var)
    y, mean, var = _normalise_batch(x, gamma, beta, synchronized=run.synchronized)
    run.statistics[f"{step.name}/mean"] = mean
    run.statistics[f"{step.name}/var"] = var
    return y


def _widen(step: Step, _run: Run, x):
    x = x[:, :: step.stride, :: step.stride, :]
    return ops.pad(x, [[0, 0], [0, 0], [0, 0], [0, step.out_width - step.in_width]])


def _dropout(step: Step, run: Run, x):
    if not run.training or step.value == 0:
        return x
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.nn.experimental.stateless_dropout(x, step.value, seed=run.seed)
    return keras.random.dropout(x, step.value, seed=run.seed)


def _max_pool(step: Step, _run: Run, x):
    # It follows a ReLU (see trainer.program), so that a border of zeros never wins.
    border = step.kernel // 2
    x = ops.pad(x, [[0, 0], [border, border], [border, border], [0, 0]])
    return ops.max_pool(x, step.kernel, step.stride, padding="valid", data_format=_NHWC)


def _dense(step: Step, run: Run, x):
    kernel, bias = (run.weights[f"{step.name}/{role}"] for role in ("kernel", "bias"))
    return ops.matmul(x, kernel) + bias


_NHWC = "channels_last"
_WIDE = 256  # channels; only networks of ImageNet have so many before a 3x3 convolution

# What the operations of `trainer.program.Step` do: values of the registers -> result.
SIMPLE: Mapping[str, Callable[..., Any]] = {
    "relu": ops.relu,
    "sigmoid": ops.sigmoid,
    "add": operator.add,
    "multiply": operator.mul,
    "one_minus": lambda x: 1 - x,
    "mean_pool": lambda x: ops.mean(x, axis=(1, 2)),
}
# The same where the step's fields, weights or the mode matter.
PARAMETRIC: Mapping[str, Callable[..., Any]] = {
    "conv": _conv,
    "bn": _bn,
    "widen": _widen,
    "scale": lambda step, _, x: x * step.value,
    "dropout": _dropout,
    "max_pool": _max_pool,
    "dense": _dense,
}


def _normalise_batch(x, gamma, beta, *, synchronized: bool) -> tuple[Any, Any, Any]:
    """Batch norm by the batch's own moments over all but the last axis.

    Returns:
        The normalised x, the mean and the variance [channels]. The variance is
        Bessel-corrected (n / (n - 1)), which is what the moving variance of Torch and of
        the fused operation takes; x is normalised by the uncorrected one.
    """
    if _fused(x) and not synchronized:
        import tensorflow as tf

        # 2 to 2.5 times faster on CPU than the same from single operations.
        y, mean, var, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=gamma, offset=beta, mean=[], variance=[], epsilon=EPSILON
        )
        return y, mean, var
    wide = ops.cast(x, gamma.dtype)
    sides: Any = ops.shape(x)
    n: Any = ops.cast(ops.prod(sides[:3]), gamma.dtype)
    mean: Any = ops.sum(wide, axis=(0, 1, 2))
    if synchronized:
        n, mean = _sum_over_replicas([n, mean])
    mean = mean / n
    var: Any = ops.sum(ops.square(wide - mean), axis=(0, 1, 2))
    if synchronized:
        (var,) = _sum_over_replicas([var])
    var = var / n
    y = _formula(x, gamma, beta, mean, var)
    return y, mean, var * (n / ops.maximum(n - 1, 1))


def _sum_over_replicas(values: list) -> list:
    """Each value summed over the replicas of a `tf.distribute` strategy, if there is one."""
    if keras.backend.backend() != "tensorflow":  # JAX computes on global arrays
        return values
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return values
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, values)


def _normalise(x, gamma, beta, mean, var):
    """Batch norm by the moving statistics, which are constants."""
    if not _fused(x):
        return _formula(x, gamma, beta, mean, var)
    import tensorflow as tf

    return tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=mean, variance=var,
        epsilon=EPSILON, is_training=False,
    ).y  # fmt: skip


def _formula(x, gamma, beta, mean, var):
    """Batch norm with gradients also through the moments (the fused one has none)."""
    y = (ops.cast(x, gamma.dtype) - mean) * ops.rsqrt(var + EPSILON) * gamma + beta
    return ops.cast(y, x.dtype)


def _fused(x) -> bool:
    """TensorFlow's fused batch norm takes all of Keras's float types but float64."""
    return (
        keras.backend.backend() == "tensorflow"
        and keras.backend.standardize_dtype(x.dtype) != "float64"
    )
