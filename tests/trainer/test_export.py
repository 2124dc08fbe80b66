"""Transform graph and exported signatures against NumPy and plain TensorFlow."""

import dataclasses
import io
import json

import numpy as np
import pytest

from contract import features
from contract.config.preprocessing import PreprocessingConfig
from contract.datasets import Dataset
from contract.model_run import ModelRun
from tests.trainer import transform_graph

pytestmark = pytest.mark.tf

CLASSES = ("cat", "dog", "ship")
TOY = Dataset(
    name="toy", title="Toy", image_shape=(32, 32, 3), labels={"label": CLASSES}
)
GREY = dataclasses.replace(TOY, image_shape=(8, 8, 1))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    images[:, 0, 0] = 17  # a pixel that never changes
    return images


@pytest.fixture(scope="module", params=["per_channel", "per_pixel", "mean_only"])
def transformed(request, images, tmp_path_factory):
    """The Transform graph of `images`, and the statistics that NumPy gives."""
    import tensorflow_transform as tft

    statistics = "per_channel" if request.param == "per_channel" else "per_pixel"
    config = PreprocessingConfig(
        statistics=statistics, divide_by_std=request.param != "mean_only"
    )
    graph = transform_graph.write(
        tmp_path_factory.mktemp(request.param),
        [image.tobytes() for image in images],
        config,
    )
    axes = (0, 1, 2) if request.param == "per_channel" else (0,)
    mean = images.mean(axis=axes)
    std = images.std(axis=axes)
    if request.param == "mean_only":
        std = np.ones_like(mean)
    return tft.TFTransformOutput(graph), mean, np.where(std > 0, std, 1)


def test_statistics_are_those_of_the_split(transformed, images):
    import tensorflow as tf

    from trainer import preprocessing

    transform, mean, std = transformed
    layer = transform.transform_features_layer()
    found_mean, found_std = preprocessing.mean_and_deviation(layer, TOY)
    np.testing.assert_allclose(
        found_mean, np.broadcast_to(mean, (32, 32, 3)), rtol=1e-6
    )
    np.testing.assert_allclose(found_std, np.broadcast_to(std, (32, 32, 3)), rtol=1e-6)
    rows = tf.constant([image.tobytes() for image in images[:5]])
    np.testing.assert_allclose(
        preprocessing.apply_transform(layer, rows, TOY),
        (images[:5] - mean) / std,
        rtol=1e-5,
        atol=1e-3,
    )


@pytest.fixture(scope="module")
def saved(transformed, images, tmp_path_factory):
    import keras

    from trainer import export

    transform, mean, std = transformed
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.layers.Input((32, 32, 3)),
            keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    directory = tmp_path_factory.mktemp("saved") / "Format-Serving"
    run = ModelRun(network="tiny", steps=3)
    export.save(
        model,
        transform,
        TOY,
        directory=str(directory),
        run=run,
        images=images[100:],
    )
    return model, directory, mean, std


def example(image: np.ndarray) -> bytes:
    import tensorflow as tf

    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()]))
    return tf.train.Example(
        features=tf.train.Features(feature={features.IMAGE: feature})
    ).SerializeToString()


def png(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_all_signatures_answer_like_the_network(saved, images):
    import tensorflow as tf

    model, directory, mean, std = saved
    normalised = ((images[:7] - mean) / std).astype(np.float32)
    expected = tf.nn.softmax(model(normalised, training=False)).numpy()
    signatures = tf.saved_model.load(str(directory)).signatures
    serialized = tf.constant([example(image) for image in images[:7]])
    answers = [
        signatures["serving_default"](images=tf.constant(images[:7])),
        signatures["serialized_examples"](examples=serialized),
        signatures["encoded_images"](encoded=tf.constant([png(i) for i in images[:7]])),
    ]
    for answer in answers:
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
        assert answer["label"].dtype == tf.int64
        assert answer["label"].numpy().tolist() == expected.argmax(1).tolist()
        names = [CLASSES[i].encode() for i in expected.argmax(1)]
        assert answer["class_name"].numpy().tolist() == names
    classified = signatures["classify"](inputs=serialized)
    np.testing.assert_allclose(classified["scores"], expected, atol=1e-5)
    assert classified["classes"].shape == (7, 3)


def test_a_batch_of_one(saved, images):
    import tensorflow as tf

    _, directory, _, _ = saved
    signatures = tf.saved_model.load(str(directory)).signatures
    chosen = images[:1]
    for answer in (
        signatures["serving_default"](images=tf.constant(chosen)),
        signatures["serialized_examples"](
            examples=tf.constant([example(i) for i in chosen], tf.string)
        ),
        signatures["encoded_images"](
            encoded=tf.constant([png(i) for i in chosen], tf.string)
        ),
    ):
        assert answer["probabilities"].shape == (1, 3)


def test_no_images_get_no_answers_from_the_server(saved):
    from serving.server import savedmodel

    _, directory, _, _ = saved
    servable = savedmodel.load(directory, savedmodel.Options())
    assert len(servable.signatures) == 4
    for name, signature in servable.signatures.items():
        ((alias, info),) = signature.inputs.items()
        sizes = [dim.size for dim in info.tensor_shape.dim]
        dtype = np.uint8 if alias == "images" else object
        feeds = {alias: np.zeros((0, *sizes[1:]), dtype)}
        outputs = servable.run(name, feeds, sorted(signature.outputs))
        for alias, array in outputs.items():
            wide = alias in ("probabilities", "scores", "classes")
            assert array.shape == ((0, 3) if wide else (0,)), (name, alias)
    servable.close()


def test_jpeg_is_decoded_too(saved, images):
    import tensorflow as tf
    from PIL import Image

    _, directory, _, _ = saved
    buffer = io.BytesIO()
    Image.fromarray(images[0]).save(buffer, "JPEG")
    signatures = tf.saved_model.load(str(directory)).signatures
    answer = signatures["encoded_images"](encoded=tf.constant([buffer.getvalue()]))
    assert answer["label"].shape == (1,)


def test_a_picture_of_another_size_is_refused(saved):
    import tensorflow as tf

    _, directory, _, _ = saved
    signatures = tf.saved_model.load(str(directory)).signatures
    big = png(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(tf.errors.InvalidArgumentError, match="32 x 32"):
        signatures["encoded_images"](encoded=tf.constant([big]))


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """A model of 8 x 8 grey pixels, and images of them."""
    import keras
    import tensorflow_transform as tft

    from trainer import export, network

    images = np.random.default_rng(1).integers(0, 256, (40, 8, 8, 1), np.uint8)
    folder = tmp_path_factory.mktemp("grey")
    graph = transform_graph.write(folder, [i.tobytes() for i in images], dataset=GREY)
    keras.utils.set_random_seed(5)
    model = network.build("preact_resnet8", classes=3, image_shape=(8, 8, 1))
    export.save(
        model,
        tft.TFTransformOutput(graph),
        GREY,
        directory=str(folder / "model"),
        run=ModelRun(network="preact_resnet8"),
        images=images,
    )
    return model, folder / "model", images


def test_grey_images_of_another_size_are_answered_by_all_signatures(grey):
    import tensorflow as tf

    model, directory, images = grey
    normalised = ((images[:7] - images.mean()) / images.std()).astype(np.float32)
    expected = tf.nn.softmax(model(normalised, training=False)).numpy()
    signatures = tf.saved_model.load(str(directory)).signatures
    serialized = tf.constant([example(image) for image in images[:7]])
    files = tf.constant([png(image[..., 0]) for image in images[:7]])
    for answer in (
        signatures["serving_default"](images=tf.constant(images[:7])),
        signatures["serialized_examples"](examples=serialized),
        signatures["encoded_images"](encoded=files),
        {"probabilities": signatures["classify"](inputs=serialized)["scores"]},
    ):
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)


def test_a_grey_model_takes_the_luminance_of_a_picture_in_colours(grey):
    import tensorflow as tf
    from PIL import Image

    _, directory, _ = grey
    signatures = tf.saved_model.load(str(directory)).signatures
    colours = np.random.default_rng(2).integers(0, 256, (5, 8, 8, 3), np.uint8)
    luminance = np.stack([Image.fromarray(i).convert("L") for i in colours])[..., None]
    found = signatures["encoded_images"](encoded=tf.constant([png(i) for i in colours]))
    wanted = signatures["serving_default"](images=tf.constant(luminance))
    np.testing.assert_array_equal(found["probabilities"], wanted["probabilities"])


def test_classify_is_a_classify_for_tf_serving(saved):
    from tensorflow.core.protobuf import saved_model_pb2

    _, directory, _, _ = saved
    proto = saved_model_pb2.SavedModel.FromString(
        (directory / "saved_model.pb").read_bytes()
    )
    signatures = proto.meta_graphs[0].signature_def
    assert signatures["classify"].method_name == "tensorflow/serving/classify"
    assert set(signatures["classify"].inputs) == {"inputs"}
    assert set(signatures["classify"].outputs) == {"classes", "scores"}
    assert signatures["serving_default"].method_name == "tensorflow/serving/predict"


def test_provenance_travels_with_the_model(saved):
    _, directory, _, _ = saved
    run = json.loads((directory / "assets.extra/run.json").read_text())
    assert (run["network"], run["steps"]) == ("tiny", 3)


def test_the_answers_of_the_training_path_travel_with_the_model(saved, images):
    """Against the network fed by NumPy's own normalisation."""
    import tensorflow as tf

    model, directory, mean, std = saved
    path = directory / "assets.extra/expected_answers.npz"
    with np.load(path, allow_pickle=False) as stored:
        found = {name: stored[name] for name in stored.files}
    assert set(found) == {"images", "probabilities", "class_names"}
    assert found["images"].dtype == np.uint8
    np.testing.assert_array_equal(found["images"], images[100:108])
    normalised = ((images[100:108] - mean) / std).astype(np.float32)
    expected = tf.nn.softmax(model(normalised, training=False)).numpy()
    assert found["probabilities"].dtype == np.float32
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    assert tuple(found["class_names"]) == CLASSES


def test_a_session_serves_the_same_network(saved, images):
    """TF Serving's loader is a session, which restores variables by their own names."""
    import tensorflow as tf

    _, directory, _, _ = saved
    loaded = tf.saved_model.load(str(directory)).signatures["serving_default"]
    expected = loaded(images=tf.constant(images[:7]))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], str(directory))
        signature = graph.signature_def["serving_default"]
        answer = session.run(
            {name: info.name for name, info in signature.outputs.items()},
            {signature.inputs["images"].name: images[:7]},
        )
    np.testing.assert_allclose(
        answer["probabilities"], expected["probabilities"], atol=1e-6
    )
    assert answer["label"].tolist() == expected["label"].numpy().tolist()
    assert answer["class_name"].tolist() == expected["class_name"].numpy().tolist()


def test_warm_up_requests_are_answered(saved):
    """As TF Serving replays them: PredictionLogs in a TFRecord, at most 1,000."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    _, directory, _, _ = saved
    signatures = tf.saved_model.load(str(directory)).signatures
    path = str(directory / "assets.extra/tf_serving_warmup_requests")
    records = [r.numpy() for r in tf.data.TFRecordDataset(path)]
    assert 0 < len(records) <= 1000
    seen = set()
    for record in records:
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") == "predict_log":
            request = log.predict_log.request
            inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
        else:
            request = log.classify_log.request
            examples = request.input.example_list.examples
            inputs = {"inputs": [e.SerializeToString() for e in examples]}
        name = request.model_spec.signature_name
        signatures[name](**{k: tf.constant(v) for k, v in inputs.items()})
        seen.add(name)
    assert seen == set(signatures)


def test_batching_parameters_are_those_of_tf_serving(saved):
    """Parsed against the fields of session_bundle_config.proto's BatchingParameters."""
    import re

    _, directory, _, _ = saved
    text = (directory / "batching_params.pbtxt").read_text()
    wrapped = dict(re.findall(r"^(\w+) \{ value: (\d+) \}$", text, re.MULTILINE))
    sizes = [int(n) for n in re.findall(r"^allowed_batch_sizes: (\d+)$", text, re.M)]
    assert set(wrapped) == {
        "max_batch_size",
        "batch_timeout_micros",
        "max_enqueued_batches",
    }
    # TF Serving: increasing, and the last one is the maximum.
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == int(wrapped["max_batch_size"])
