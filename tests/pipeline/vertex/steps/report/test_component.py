"""What Vertex AI's compiler and container make of the component's contract."""

import pytest

pytestmark = pytest.mark.tf


def test_the_container_finds_our_artifact_types_by_their_names():
    from kfp.pipeline_spec import pipeline_spec_pb2
    from tfx.orchestration.kubeflow.v2 import compiler_utils
    from tfx.orchestration.kubeflow.v2.container import (
        kubeflow_v2_entrypoint_utils as entrypoint,
    )
    from tfx.utils import import_utils

    from components import artifacts

    for kind in (artifacts.Decision, artifacts.Report, artifacts.RunConfiguration):
        schema = pipeline_spec_pb2.ArtifactTypeSchema(
            instance_schema=compiler_utils.get_artifact_schema(kind)
        )
        name = entrypoint._retrieve_class_path(schema)
        assert import_utils.import_class_by_path(name) is kind


def test_a_part_is_called_by_its_name():
    from tfx import types

    from components import artifacts
    from pipeline.vertex.steps.report.component import Report

    channel = types.Channel(type=artifacts.RunConfiguration)
    with pytest.raises(TypeError, match="Report takes no verdict"):
        Report(run_configuration=channel, directory="gs://b/report", verdict=channel)


def test_a_needed_part_must_be_there():
    from tfx import types

    from components import artifacts
    from pipeline.vertex.steps.report.component import Report

    channel = types.Channel(type=artifacts.RunConfiguration)
    with pytest.raises(ValueError, match="examples"):
        Report(run_configuration=channel, directory="gs://b/report")
