"""Any shape is taken, whatever the signature says, and answered as TensorFlow answers it.

tensorflow/serving b6b8cca: PreProcessPrediction (servables/tensorflow/predict_util.cc) and
GetInputValues (tensorflow/cc/saved_model/util.cc) compare names only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tensorflow.core.protobuf import saved_model_pb2

from serving.server import guards, savedmodel
from serving.server.errors import ServingError
from tests.serving.server import models

pytestmark = pytest.mark.tf

Run = Callable[..., dict[str, np.ndarray]]


def plain(folder: Path) -> Run:
    """The signatures in TensorFlow's own session, their inputs of any shape."""
    saved = saved_model_pb2.SavedModel.FromString(
        (folder / "saved_model.pb").read_bytes()
    )
    (meta,) = saved.meta_graphs
    signatures = {
        name: definition
        for name, definition in meta.signature_def.items()
        if not name.startswith("__")
    }
    with tf.Graph().as_default() as graph:
        fed = {
            info.name: tf.compat.v1.placeholder(info.dtype, None)
            for definition in signatures.values()
            for info in definition.inputs.values()
        }
        tf.import_graph_def(meta.graph_def, input_map=fed, name="")
    session = tf.compat.v1.Session(graph=graph)
    variables = str(folder / "variables" / "variables")
    session.run(
        meta.saver_def.restore_op_name, {meta.saver_def.filename_tensor_name: variables}
    )

    def run(signature: str, **feeds: np.ndarray) -> dict[str, np.ndarray]:
        definition = signatures[signature]
        outputs = session.run(
            {alias: info.name for alias, info in definition.outputs.items()},
            {
                fed[definition.inputs[alias].name]: array
                for alias, array in feeds.items()
            },
        )
        return {
            alias: np.array(value, object) if isinstance(value, bytes) else value
            for alias, value in outputs.items()
        }

    return run


@pytest.fixture(scope="module")
def both(model_root: Path) -> dict[str, tuple[Run, Run]]:
    """By model: TensorFlow's answer, and this server's."""

    def ours(folder: Path) -> Run:
        servable = savedmodel.load(folder, savedmodel.Options())

        def run(signature: str, **feeds: np.ndarray) -> dict[str, np.ndarray]:
            outputs = sorted(servable.signatures[signature].outputs)
            return dict(servable.run(signature, feeds, outputs))

        return run

    folders = {name: model_root / name / "1" for name in ("tf2", "images")}
    return {name: (plain(folder), ours(folder)) for name, folder in folders.items()}


def outcome(run: Run, signature: str, feeds: dict[str, np.ndarray]) -> Any:
    """Outputs, or the first line of what was wrong with the inputs."""
    try:
        return run(signature, **feeds)
    except tf.errors.InvalidArgumentError as error:
        original = (
            error.__context__
        )  # before the session has told where the node is from
        assert isinstance(original, tf.errors.InvalidArgumentError)
        return original.message.splitlines()[0]
    except ServingError as error:
        assert error.code == grpc.StatusCode.INVALID_ARGUMENT
        return error.message


def agree(pair: tuple[Run, Run], signature: str, **feeds: np.ndarray) -> Any:
    expected, found = (outcome(run, signature, feeds) for run in pair)
    if isinstance(expected, str):
        assert isinstance(found, str), found
        assert expected in found
        assert "defined at" not in found  # as a session adds of our code
        return found
    assert not isinstance(found, str), found
    for alias, value in expected.items():
        assert value.shape == found[alias].shape
        np.testing.assert_array_equal(value, found[alias])
    return found


def shapes(most: int = 3) -> st.SearchStrategy[tuple[int, ...]]:
    return npst.array_shapes(min_dims=0, max_dims=most, min_side=0, max_side=3)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["serving_default", "scalar"]), shapes())
def test_arithmetic_takes_any_shape(both, signature, shape):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    answer = agree(both["tf2"], signature, x=x)
    np.testing.assert_array_equal(answer["y"], x / 2 + 2)


@settings(deadline=None, max_examples=60)
@given(shapes(), shapes())
def test_shapes_that_do_not_go_together_are_tensorflows_to_refuse(both, a, b):
    ones = [np.ones(shape, np.int64) for shape in (a, b)]
    answer = agree(both["tf2"], "divide", a=ones[0], b=ones[1])
    try:
        broadcast = np.broadcast_shapes(a, b)
    except ValueError:
        assert "Incompatible shapes" in answer or "must be" in answer
    else:
        assert answer["quotient"].shape == broadcast


@settings(deadline=None, max_examples=30)
@given(shapes())
def test_strings_of_any_shape(both, shape):
    text = np.full(shape, b"ab", object)
    assert agree(both["tf2"], "strings", text=text)["text"].shape == shape


@settings(deadline=None, max_examples=40)
@given(npst.array_shapes(min_dims=4, max_dims=4, min_side=0, max_side=5), st.booleans())
def test_images_of_any_size(both, shape, right):
    shape = (*shape[:3], 3) if right else shape
    images = np.ones(shape, np.uint8)
    answer = agree(both["images"], "serving_default", images=images)
    # No channels are a multiple of three: that TensorFlow refuses by chance of the processor.
    assert shape[3] == 0 or isinstance(answer, str) == (shape[3] != 3), answer


@pytest.mark.parametrize("rank", [0, 1, 2, 3, 5, 6])
@pytest.mark.parametrize("signature", ["serving_default", *models.GUARDED])
def test_ranks_that_would_end_the_process_are_refused(both, signature, rank):
    run = both["images"][1]
    dtype = np.uint8 if signature == "serving_default" else np.float32
    taken = {"either_rank": (3, 4), "volumes": (5,), "pooled": (5,)}
    if rank in taken.get(signature, (4,)):
        return
    for size in (0, 1, 3):
        images = np.ones([size] * rank, dtype)
        if signature == "any_rank_branch" and not images.sum() > 0:
            continue  # the convolution is not reached
        with pytest.raises(ServingError) as caught:
            run(signature, images=images)
        assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


def test_no_images_get_no_answers(both):
    """Also where oneDNN gives an empty convolution the shape of its input."""
    run = both["images"][1]
    one = run("serving_default", images=np.ones((1, 32, 32, 3), np.uint8))
    none = run("serving_default", images=np.ones((0, 32, 32, 3), np.uint8))
    assert none["features"].shape == (0, *one["features"].shape[1:])
    assert none["features"].dtype == one["features"].dtype


def test_the_input_whose_shape_is_not_the_signatures_is_named(both):
    with pytest.raises(ServingError) as caught:
        both["images"][1]("serving_default", images=np.ones((32, 32, 3), np.uint8))
    assert "Shape of tensor" in caught.value.message  # EnsureShape's
    assert caught.value.message.endswith(
        'input "images" has the shape [32,32,3], the signature\'s is [?,32,32,3]'
    )


def test_guards_stand_in_graphs_and_functions():
    graph = tf.compat.v1.GraphDef()
    graph.node.add(name="c", op="Conv2D", input=["x", "k"])
    graph.node.add(name="c/rank", op="NoOp")
    function = graph.library.function.add()
    function.node_def.add(name="c", op="Conv3D", input=["a:output:0", "k", "^b"])
    assert guards.needed(graph)
    guards.add(graph)
    assert list(graph.node[0].input) == ["c/rank_", "k"]
    assert list(graph.node[2].input) == ["x"]
    assert list(function.node_def[0].input) == ["c/rank:output:0", "k", "^b"]
    assert list(function.node_def[1].input) == ["a:output:0"]
    assert len(function.node_def[1].attr["shape"].shape.dim) == 5
    assert not guards.needed(tf.compat.v1.GraphDef())


def test_functions_that_have_no_guards_take_no_open_ranks(tmp_path):
    import keras

    module = tf.Module()
    convolution = keras.layers.Conv2D(2, 3)
    convolution.build((None, 4, 4, 3))
    module.layers = [convolution]  # its variables are not tracked, so not restored

    @tf.function(input_signature=[tf.TensorSpec(None, name="x")])
    def serve(x):
        return {"y": convolution(tf.ensure_shape(x, [None, 4, 4, 3]))}

    module.serve = serve
    tf.saved_model.save(module, str(tmp_path), signatures=module.serve)
    with pytest.raises(savedmodel.LoadError, match="with a known rank"):
        savedmodel.load(tmp_path, savedmodel.Options())


def test_an_output_that_does_not_use_its_input(tmp_path):
    module = tf.Module()
    module.constant = tf.function(
        lambda x: {"y": 1.0},  # noqa: ARG005
        input_signature=[tf.TensorSpec(None, name="x")],
    )
    tf.saved_model.save(module, str(tmp_path), signatures={"s": module.constant})
    servable = savedmodel.load(tmp_path, savedmodel.Options())
    for shape in ((), (2,), (1, 2, 3)):
        answer = servable.run("s", {"x": np.ones(shape, np.float32)}, ["y"])
        assert answer["y"] == 1.0


def test_assets_are_found_when_tables_are_filled(tmp_path):
    (tmp_path / "words.txt").write_text("ant\nbee\n")
    module = tf.Module()
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            tf.saved_model.Asset(str(tmp_path / "words.txt")).asset_path,
            tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        -1,
    )  # fmt: skip
    module.look_up = tf.function(
        lambda x: {"y": module.table.lookup(x)},
        input_signature=[tf.TensorSpec([None], tf.string, name="x")],
    )
    folder = tmp_path / "m"
    tf.saved_model.save(module, str(folder), signatures={"s": module.look_up})
    (tmp_path / "words.txt").unlink()
    servable = savedmodel.load(folder, savedmodel.Options())
    words = np.array([[b"bee", b"cat"]], object)
    assert servable.run("s", {"x": words}, ["y"])["y"].tolist() == [[1, -1]]
