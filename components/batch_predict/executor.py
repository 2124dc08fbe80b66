"""Work of BatchPredict: the version that was just pushed, over a folder of images."""

from __future__ import annotations

from absl import logging
from tfx.types.standard_artifacts import PushedModel

from components import artifacts
from components.batch_predict import answering
from components.batch_predict import plan as plans
from components.declaration import Beam, Output, executor_of
from contract import pushed_model as properties


def predict_pushed(
    *,
    pushed_model: PushedModel,
    images: str,
    fingerprint: str,  # noqa: ARG001
    output: str,
    prediction: Output[artifacts.BatchPrediction],
    make_pipeline: Beam,
) -> None:
    """Writes what the pushed version answers to every image, a JSON object per line.

    It is `pipeline.py predict` as a node. A node that was stopped and is started again does
    the parts that are missing: they lie beside the output, not in the artifact, which TFX
    removes when a node fails.

    Args:
        pushed_model: Of the AtomicPusher. When nothing was pushed, nothing is predicted.
        images: Folder of pictures or of TFRecords, local or in a bucket.
        fingerprint: Of the files there when the run began: for the cache, which
            else would not see that they are others.
        output: Folder that gets <name of the images' folder>-v<version>.jsonl.
        prediction: Gets the custom properties in components/artifacts.py.
        make_pipeline: For Beam; on a cluster, images, output and model are in a bucket.

    Raises:
        ConfigError: The folder has no images, or is gone.
    """
    if not pushed_model.get_int_custom_property(properties.PUSHED):
        logging.warning("Nothing was pushed, so nothing is predicted")
        prediction.set_string_custom_property("output", "")
        return
    version = int(pushed_model.get_string_custom_property(properties.VERSION))
    path = pushed_model.get_string_custom_property(properties.DESTINATION)
    plan = plans.Plan(
        plans.Model(path, version),
        plans.find_files(images, plans.FIELD),
        plans.output_file(output, images, version),
    )
    answering.predict(plan, make_pipeline)
    plans.join(plan)
    logging.info(
        "%d files, version %d: %s", len(plan.found.names), version, plan.output
    )
    prediction.set_string_custom_property("output", plan.output)
    prediction.set_string_custom_property(properties.VERSION, str(version))
    prediction.set_int_custom_property("files", len(plan.found.names))


Executor = executor_of(predict_pushed)
