"""The store of metadata and TensorBoard of this machine, for the genuine client library.

They keep what Google's reference says of MetadataService and TensorboardService: names,
forms of ids, what exists once, what must be there first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import grpc
from google.cloud import aiplatform_v1
from google.cloud.aiplatform_v1.types import (
    artifact,
    context,
    metadata_service,
    tensorboard_experiment,
    tensorboard_run,
    tensorboard_service,
    tensorboard_time_series,
)
from google.protobuf import empty_pb2

from tests.pipeline.vertex.stand_in import NAMES, Refusal, StandIn

_API = "/google.cloud.aiplatform.v1."
BOARD = "tensorboards/4200"


class Experiments:
    """State of both services: everything by the end of its name, behind the region."""

    def __init__(self, credentials: grpc.ServerCredentials) -> None:
        store = aiplatform_v1.MetadataStore(name=f"{NAMES}/metadataStores/default")
        board = aiplatform_v1.Tensorboard(name=f"{NAMES}/{BOARD}", display_name="board")
        self.things: dict[str, Any] = {
            "metadataStores/default": store,
            BOARD: board,
        }
        self.children: dict[str, list[str]] = {}  # of a context
        self.artifacts: dict[str, list[str]] = {}  # of a context
        self.points: dict[str, list[tuple[int, float]]] = {}  # of a time series
        metadata, boards = metadata_service, tensorboard_service
        self.vertex = StandIn(
            more={
                **_methods(
                    "MetadataService",
                    GetMetadataStore=(metadata.GetMetadataStoreRequest, self._get),
                    GetContext=(metadata.GetContextRequest, self._get),
                    GetArtifact=(metadata.GetArtifactRequest, self._get),
                    GetExecution=(metadata.GetExecutionRequest, self._get),
                    CreateContext=(
                        metadata.CreateContextRequest,
                        self._creates(
                            context.Context, "context", "contexts", schema=True
                        ),
                    ),
                    CreateArtifact=(
                        metadata.CreateArtifactRequest,
                        self._creates(
                            artifact.Artifact, "artifact", "artifacts", schema=True
                        ),
                    ),
                    UpdateContext=(metadata.UpdateContextRequest, self._update_context),
                    DeleteContext=(metadata.DeleteContextRequest, self._delete),
                    DeleteArtifact=(metadata.DeleteArtifactRequest, self._delete),
                    AddContextChildren=(
                        metadata.AddContextChildrenRequest,
                        self._add_children,
                    ),
                    AddContextArtifactsAndExecutions=(
                        metadata.AddContextArtifactsAndExecutionsRequest,
                        self._add_artifacts,
                    ),
                ),
                **_methods(
                    "TensorboardService",
                    GetTensorboard=(boards.GetTensorboardRequest, self._get),
                    GetTensorboardExperiment=(
                        boards.GetTensorboardExperimentRequest,
                        self._get,
                    ),
                    GetTensorboardRun=(boards.GetTensorboardRunRequest, self._get),
                    CreateTensorboardExperiment=(
                        boards.CreateTensorboardExperimentRequest,
                        self._creates(
                            tensorboard_experiment.TensorboardExperiment,
                            "tensorboard_experiment",
                            "experiments",
                        ),
                    ),
                    CreateTensorboardRun=(
                        boards.CreateTensorboardRunRequest,
                        self._creates(
                            tensorboard_run.TensorboardRun, "tensorboard_run", "runs"
                        ),
                    ),
                    DeleteTensorboardRun=(
                        boards.DeleteTensorboardRunRequest,
                        self._delete,
                    ),
                    ListTensorboardTimeSeries=(
                        boards.ListTensorboardTimeSeriesRequest,
                        self._list_series,
                    ),
                    CreateTensorboardTimeSeries=(
                        boards.CreateTensorboardTimeSeriesRequest,
                        self._create_series,
                    ),
                    WriteTensorboardRunData=(
                        boards.WriteTensorboardRunDataRequest,
                        self._write,
                    ),
                ),
            },
            credentials=credentials,
        )

    # ---- for tests ------------------------------------------------------------------

    def context(self, name: str) -> Any:
        """An experiment, or one of its runs."""
        return self.things[f"metadataStores/default/contexts/{name}"]

    def curves(self, experiment: str, run: str) -> dict[str, list[tuple[int, float]]]:
        """Points (step, value) by the name of the curve."""
        place = f"{BOARD}/experiments/{experiment}/runs/{run}/timeSeries/"
        return {
            self.things[key].display_name: points
            for key, points in self.points.items()
            if key.startswith(place)
        }

    # ---- the services ---------------------------------------------------------------

    def _find(self, name: str) -> Any:
        key = _key(name)
        if key not in self.things:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"{name} not found")
        return self.things[key]

    def _get(self, request: Any) -> Any:
        return self._find(request.name)

    def _creates(
        self, kind: Any, field: str, collection: str, *, schema: bool = False
    ) -> Callable[[Any], Any]:
        def create(request: Any) -> Any:
            self._find(request.parent)
            identifier = getattr(request, f"{field}_id")
            if not re.fullmatch("[a-z0-9][a-z0-9-]{0,127}", identifier):
                raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"bad id {identifier}")
            key = f"{_key(request.parent)}/{collection}/{identifier}"
            if key in self.things:
                raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"{key} exists")
            made = kind(getattr(request, field))
            if schema and not (made.schema_title and made.schema_version):
                raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "no schema")
            made.name = f"{NAMES}/{key}"
            self.things[key] = made
            return made

        return create

    def _update_context(self, request: Any) -> Any:
        key = _key(self._find(request.context.name).name)
        self.things[key] = context.Context(request.context)
        return self.things[key]

    def _delete(self, request: Any) -> Any:
        key = _key(self._find(request.name).name)
        for each in [k for k in self.things if k == key or k.startswith(f"{key}/")]:
            del self.things[each]
            self.points.pop(each, None)
        return self.vertex.operation(empty_pb2.Empty(), polls=0)

    def _add_children(self, request: Any) -> Any:
        key = _key(self._find(request.context).name)
        for name in request.child_contexts:
            self.children.setdefault(key, []).append(_key(self._find(name).name))
        return metadata_service.AddContextChildrenResponse()

    def _add_artifacts(self, request: Any) -> Any:
        key = _key(self._find(request.context).name)
        for name in request.artifacts:
            self.artifacts.setdefault(key, []).append(_key(self._find(name).name))
        return metadata_service.AddContextArtifactsAndExecutionsResponse()

    def _list_series(self, request: Any) -> Any:
        place = f"{_key(self._find(request.parent).name)}/timeSeries/"
        found = [made for key, made in self.things.items() if key.startswith(place)]
        return tensorboard_service.ListTensorboardTimeSeriesResponse(
            tensorboard_time_series=found
        )

    def _create_series(self, request: Any) -> Any:
        known = self._list_series(request).tensorboard_time_series
        made = tensorboard_time_series.TensorboardTimeSeries(
            request.tensorboard_time_series
        )
        if made.display_name in {each.display_name for each in known}:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, made.display_name)
        key = f"{_key(request.parent)}/timeSeries/{len(known) + 1}"
        made.name = f"{NAMES}/{key}"
        self.things[key] = made
        self.points[key] = []
        return made

    def _write(self, request: Any) -> Any:
        place = _key(self._find(request.tensorboard_run).name)
        for series in request.time_series_data:
            key = f"{place}/timeSeries/{series.tensorboard_time_series_id}"
            self._find(key)
            self.points[key] += [
                (each.step, each.scalar.value) for each in series.values
            ]
        return tensorboard_service.WriteTensorboardRunDataResponse()


def _methods(service: str, **handlers: tuple[Any, Any]) -> dict[str, Any]:
    return {f"{_API}{service}/{name}": each for name, each in handlers.items()}


def _key(name: str) -> str:
    """Behind the region: the project is an id or a number."""
    return re.sub("^projects/[^/]+/locations/[^/]+/", "", name)
