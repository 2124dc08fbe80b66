"""Contract of the Report: what it reads and what it hands on."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components import artifacts
from pipeline.nodes import PARTS
from pipeline.vertex.steps.report import executor


def _type(name: str) -> type[types.Artifact]:
    """The class of this name, ours or TFX's."""
    return getattr(artifacts, name, None) or getattr(standard_artifacts, name)


class ReportSpec(types.ComponentSpec):
    """Inputs, output and parameter of the Report."""

    PARAMETERS = {executor.DIRECTORY: component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        executor.RUN_CONFIGURATION: component_spec.ChannelParameter(
            type=artifacts.RunConfiguration
        ),
        **{
            name: component_spec.ChannelParameter(
                type=_type(part.output.type), optional=not part.output.needed
            )
            for name, part in PARTS.items()
        },
    }
    OUTPUTS = {
        executor.REPORT: component_spec.ChannelParameter(type=artifacts.Report),
    }


class Report(base_component.BaseComponent):
    """Writes the page and report.json where there is no ML Metadata store to ask.

    Locally the command line writes them, from ML Metadata, when all components are done;
    on Vertex AI this is the last component. It runs as well when nothing was pushed, but
    not when an earlier component failed. A report that cannot be made fails nothing: the
    run has done its work.

    `outputs`:
      - `report`: report.html and report.json, and what they say in short as custom
        properties, see components/artifacts.py.
    """

    SPEC_CLASS = ReportSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        *,
        run_configuration: types.BaseChannel,
        directory: str,
        **parts: types.BaseChannel | None,
    ):
        """Creates the node.

        Args:
            run_configuration: RunConfiguration, which tells run and configuration.
            directory: Folder that gets a copy of both files, each whole.
            **parts: By the names of pipeline/nodes.py; the needed ones, and what
                else the report is to show. None is as good as left out.

        Raises:
            TypeError: A name that is no part.
        """
        unknown = parts.keys() - PARTS.keys()
        if unknown:
            raise TypeError(
                f"{', '.join(sorted(unknown))}: not a part of the report; parts are "
                f"{', '.join(PARTS)}"
            )
        given: dict[str, Any] = {
            name: channel for name, channel in parts.items() if channel is not None
        }
        super().__init__(
            ReportSpec(
                run_configuration=run_configuration,
                directory=directory,
                report=types.Channel(type=artifacts.Report),
                **given,
            )
        )
