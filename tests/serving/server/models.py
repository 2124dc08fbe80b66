"""Small models of every kind, written by plain TensorFlow for the server's tests.

Each function writes one version's folder. Arithmetic is y = factor * x + shift, so that
the versions of a model can be told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

IMAGE_SHAPE = (32, 32, 3)


class Half(tf.Module):
    """Several signatures over one variable."""

    def __init__(self, factor: float, shift: float):
        super().__init__()
        self.factor = tf.Variable(factor)
        self.shift = tf.Variable(shift)

    @tf.function(input_signature=[tf.TensorSpec([None], name="x")])
    def predict(self, x):
        y = self.factor * x + self.shift
        return {"y": y, "twice": 2 * y}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs):
        return {"outputs": self.factor * _parse(inputs) + self.shift}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs):
        y = self.factor * _parse(inputs) + self.shift
        names = tf.tile(tf.constant([["low", "high"]]), [tf.shape(y)[0], 1])
        return {"classes": names, "scores": tf.stack([-y, y], axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def strings(self, text):
        return {"length": tf.strings.length(text), "text": text}

    @tf.function(input_signature=[tf.TensorSpec([], name="x")])
    def scalar(self, x):
        return {"y": self.factor * x + self.shift}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.int64, name="a"),
            tf.TensorSpec([None, 2], tf.int64, name="b"),
        ]
    )
    def divide(self, a, b):
        return {"quotient": a // b}  # integers: zero is an error of the kernel

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64, name="turns")])
    def slow(self, turns):
        count = tf.constant(0, tf.int64)
        (count,) = tf.while_loop(lambda i: i < turns, lambda i: (i + 1,), (count,))
        return {"count": count}


def _parse(serialized):
    parsed = tf.io.parse_example(
        serialized, {"x": tf.io.FixedLenFeature([], tf.float32)}
    )
    return parsed["x"]


def write_tf2(folder: Path, *, factor: float = 0.5, shift: float = 2.0) -> Path:
    """half_plus_two as TF2 writes it, with a signature of every kind."""
    module = Half(factor, shift)
    tf.saved_model.save(
        module,
        str(folder),
        signatures={
            "serving_default": module.predict,
            "regress": module.regress,
            "classify": module.classify,
            "strings": module.strings,
            "scalar": module.scalar,
            "divide": module.divide,
            "slow": module.slow,
        },
    )
    return folder


def write_tf1(folder: Path, *, factor: float = 0.5, shift: float = 2.0) -> Path:
    """half_plus_two as TF1 wrote it, with a table that its main op fills."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        a = v1.get_variable("a", initializer=factor, use_resource=False)
        b = v1.get_variable("b", initializer=shift, use_resource=False)
        serialized = v1.placeholder(tf.string, [None], "tf_example")
        parsed = v1.parse_example(
            serialized, {"x": tf.io.FixedLenFeature([1], tf.float32)}
        )
        x = tf.identity(parsed["x"], name="x")
        y = tf.add(tf.multiply(a, x), b, name="y")
        names = tf.constant(["zero", "one"])
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant([0, 1], tf.int64), names),
            "?",
        )
        label = table.lookup(tf.cast(y > 2.5, tf.int64), name="label")
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        info = v1.saved_model.build_tensor_info
        definition = v1.saved_model.build_signature_def
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map={
                "serving_default": definition(
                    {"x": info(x)},
                    {"y": info(y), "label": info(label)},
                    "tensorflow/serving/predict",
                ),
                "regress": definition(
                    {"inputs": info(serialized)},
                    {"outputs": info(y)},
                    "tensorflow/serving/regress",
                ),
                "classify": definition(
                    {"inputs": info(serialized)},
                    {"classes": info(label), "scores": info(y)},
                    "tensorflow/serving/classify",
                ),
            },
            main_op=v1.tables_initializer(),
        )
        builder.save()
    return folder


class Images(tf.Module):
    """A convolution, for what goes wrong with images."""

    def __init__(self):
        super().__init__()
        kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 4))
        self.kernel = tf.Variable(kernel.astype(np.float32))

    def _network(self, images):
        features = tf.nn.conv2d(tf.cast(images, tf.float32), self.kernel, 1, "SAME")
        return {"features": tf.nn.relu(features)}

    @tf.function(
        input_signature=[tf.TensorSpec([None, *IMAGE_SHAPE], tf.uint8, name="images")]
    )
    def pixels(self, images):
        return self._network(images)

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="images")])
    def any_rank(self, images):
        return self._network(images)

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="images")])
    def any_rank_mapped(self, images):
        def one(image):
            return self._network(image[None])["features"][0]

        return {"features": tf.map_fn(one, images)}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="images")])
    def any_rank_branch(self, images):
        features = tf.cond(
            tf.reduce_sum(images) > 0,
            lambda: self._network(images)["features"],
            lambda: images,
        )
        return {"features": features}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="images")])
    def either_rank(self, images):
        batch = tf.cond(
            tf.equal(tf.rank(images), 3), lambda: images[None], lambda: images
        )
        return self._network(batch)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="encoded")])
    def encoded(self, encoded):
        def one(data):
            return tf.shape(
                tf.io.decode_image(data, channels=3, expand_animations=False)
            )

        return {"shape": tf.map_fn(one, encoded, fn_output_signature=tf.int32)}

    # The other operations that abort the process on a wrong rank.
    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 3], name="images")])
    def depthwise(self, images):
        strides = [1, 1, 1, 1]
        return {"y": tf.nn.depthwise_conv2d(images, self.kernel, strides, "SAME")}

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 4, 3], name="images")])
    def volumes(self, images):
        return {"y": tf.nn.conv3d(images, self.kernel[None], [1] * 5, "SAME")}

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 4, 3], name="images")])
    def pooled(self, images):
        return {"y": tf.nn.max_pool3d(images, 2, 2, "SAME")}


ANY_RANK = ("any_rank", "any_rank_mapped", "any_rank_branch", "either_rank")
GUARDED = (*ANY_RANK, "depthwise", "volumes", "pooled")


def write_images(folder: Path) -> Path:
    """Convolutions on uint8 [batch, 32, 32, 3], on any rank, and an image decoder."""
    module = Images()
    signatures = {name: getattr(module, name) for name in (*GUARDED, "encoded")}
    tf.saved_model.save(
        module, str(folder), signatures={"serving_default": module.pixels, **signatures}
    )
    return folder


def write_warmup(folder: Path, content: bytes) -> None:
    """assets.extra/tf_serving_warmup_requests of a version."""
    (folder / "assets.extra").mkdir(exist_ok=True)
    (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(content)


def examples(values: Sequence[float]) -> list[tf.train.Example]:
    """tf.Examples with the feature "x"."""
    return [
        tf.train.Example(
            features=tf.train.Features(
                feature={
                    "x": tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
                }
            )
        )
        for value in values
    ]
