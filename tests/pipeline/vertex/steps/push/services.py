"""Model Registry and Endpoints of this machine's, for tests/pipeline/vertex/stand_in.py.

They keep what the documentation of Vertex AI promises: version numbers of their own, an
alias on one version at a time, `default` on the first, shares of traffic that add up to
100, and no removal of a version that has traffic.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import grpc
from google.cloud import aiplatform_v1
from google.cloud.aiplatform_v1.types import endpoint_service, model_service
from google.longrunning import operations_pb2
from google.protobuf import json_format

from tests.pipeline.vertex.stand_in import NAMES, PARENT, Refusal, StandIn

_API = "/google.cloud.aiplatform.v1."


def _refuse(code: str, text: str) -> Refusal:
    return Refusal(getattr(grpc.StatusCode, code), text)


class Serving:
    """State of both services."""

    def __init__(self) -> None:
        self.versions: dict[str, list[Any]] = {}  # by model id
        self.evaluations: dict[str, list[Any]] = {}  # by "<model id>@<version>"
        self.endpoints: dict[str, Any] = {}
        self.running: list[str] = []  # names of resources with an operation, per look
        self._numbers = itertools.count(7_000_000_000_000_000_001)
        self.vertex = StandIn(
            more={
                f"{_API}ModelService/UploadModel": (
                    model_service.UploadModelRequest,
                    self._upload,
                ),
                f"{_API}ModelService/GetModel": (
                    model_service.GetModelRequest,
                    self._get_model,
                ),
                f"{_API}ModelService/MergeVersionAliases": (
                    model_service.MergeVersionAliasesRequest,
                    self._merge,
                ),
                f"{_API}ModelService/ImportModelEvaluation": (
                    model_service.ImportModelEvaluationRequest,
                    self._import_evaluation,
                ),
                f"{_API}ModelService/ListModelEvaluations": (
                    model_service.ListModelEvaluationsRequest,
                    self._list_evaluations,
                ),
                f"{_API}EndpointService/CreateEndpoint": (
                    endpoint_service.CreateEndpointRequest,
                    self._create_endpoint,
                ),
                f"{_API}EndpointService/GetEndpoint": (
                    endpoint_service.GetEndpointRequest,
                    self._get_endpoint,
                ),
                f"{_API}EndpointService/DeployModel": (
                    endpoint_service.DeployModelRequest,
                    self._deploy,
                ),
                f"{_API}EndpointService/UndeployModel": (
                    endpoint_service.UndeployModelRequest,
                    self._undeploy,
                ),
                "/google.longrunning.Operations/ListOperations": (
                    operations_pb2.ListOperationsRequest,
                    self._list_operations,
                ),
            }
        )

    def clients(self) -> tuple[Any, Any]:
        """Genuine clients that talk to both."""
        return (
            self.vertex.client(aiplatform_v1.ModelServiceClient),
            self.vertex.client(aiplatform_v1.EndpointServiceClient),
        )

    def aliases(self, model: str) -> dict[str, str]:
        """Alias -> version number."""
        return {
            alias: each.version_id
            for each in self.versions[model]
            for alias in each.version_aliases
        }

    def traffic(self, endpoint: str) -> dict[str, int]:
        """Display name -> share; of all that is deployed."""
        found = self.endpoints[endpoint]
        return {
            each.display_name: found.traffic_split.get(each.id, 0)
            for each in found.deployed_models
        }

    # --- ModelService ------------------------------------------------------------------

    def _version(self, name: str) -> Any:
        path, _, wanted = name.rpartition("/")[2].partition("@")
        for each in self.versions.get(path, []):
            aliases = list(each.version_aliases)
            if (wanted or "default") in (each.version_id, *aliases):
                return each
        raise _refuse("NOT_FOUND", f"The Model {name} does not exist.")

    def _get_model(self, request: Any) -> Any:
        return self._version(request.name)

    def _upload(self, request: Any) -> Any:
        if request.parent != PARENT:
            raise _refuse("PERMISSION_DENIED", f"no access to {request.parent}")
        if bool(request.parent_model) == bool(request.model_id):
            raise _refuse("INVALID_ARGUMENT", "either parent_model or model_id")
        identifier = request.model_id or request.parent_model.rpartition("/")[2]
        if request.model_id and identifier in self.versions:
            raise _refuse("ALREADY_EXISTS", f"Model {identifier} exists")
        if request.parent_model:
            self._version(request.parent_model)
        known = self.versions.setdefault(identifier, [])
        model = aiplatform_v1.Model(request.model)
        model.name = f"{NAMES}/models/{identifier}"
        model.version_id = str(len(known) + 1)
        if not known:
            model.version_aliases.append("default")
        for alias in list(model.version_aliases):
            self._take_away(known, alias)
        known.append(model)
        return self.vertex.operation(
            model_service.UploadModelResponse(
                model=model.name, model_version_id=model.version_id
            )
        )

    def _merge(self, request: Any) -> Any:
        if not re.search(r"@\d+$", request.name):
            raise _refuse("INVALID_ARGUMENT", "a version number is needed")
        found = self._version(request.name)
        model = found.name.rpartition("/")[2]
        for alias in request.version_aliases:
            self._take_away(self.versions[model], alias.removeprefix("-"))
            if not alias.startswith("-"):
                found.version_aliases.append(alias)
        return found

    @staticmethod
    def _take_away(versions: list[Any], alias: str) -> None:
        for each in versions:
            kept = [known for known in each.version_aliases if known != alias]
            each.version_aliases = kept

    def _import_evaluation(self, request: Any) -> Any:
        """As documented: a new one each time, with metrics that fit their schema."""
        version = self._version(request.parent)
        made = aiplatform_v1.ModelEvaluation(request.model_evaluation)
        if made.name or made.create_time:
            raise _refuse("INVALID_ARGUMENT", "name and create_time are output only")
        _check_metrics(made)
        known = self.evaluations.setdefault(_short(version), [])
        made.name = f"{version.name}/evaluations/{next(self._numbers)}"
        known.append(made)
        return made

    def _list_evaluations(self, request: Any) -> Any:
        version = self._version(request.parent)
        found = self.evaluations.get(_short(version), [])
        return model_service.ListModelEvaluationsResponse(model_evaluations=found)

    # --- EndpointService ---------------------------------------------------------------

    def _endpoint(self, name: str) -> Any:
        found = self.endpoints.get(name.rpartition("/")[2])
        if found is None:
            raise _refuse("NOT_FOUND", f"The Endpoint {name} does not exist.")
        return found

    def _get_endpoint(self, request: Any) -> Any:
        return self._endpoint(request.name)

    def _create_endpoint(self, request: Any) -> Any:
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", request.endpoint_id):
            raise _refuse("INVALID_ARGUMENT", f"bad id {request.endpoint_id}")
        if request.endpoint_id in self.endpoints:
            raise _refuse("ALREADY_EXISTS", f"Endpoint {request.endpoint_id} exists")
        made = aiplatform_v1.Endpoint(request.endpoint)
        made.name = f"{NAMES}/endpoints/{request.endpoint_id}"
        self.endpoints[request.endpoint_id] = made
        return self.vertex.operation(made)

    def _deploy(self, request: Any) -> Any:
        endpoint = self._endpoint(request.endpoint)
        self._version(request.deployed_model.model)
        split = dict(request.traffic_split)
        known = {each.id for each in endpoint.deployed_models}
        if sum(split.values()) != 100 or not split.keys() <= known | {"0"}:
            raise _refuse("INVALID_ARGUMENT", f"bad traffic split {split}")
        made = aiplatform_v1.DeployedModel(request.deployed_model)
        made.id = str(next(self._numbers))
        endpoint.deployed_models.append(made)
        endpoint.traffic_split = {
            made.id if number == "0" else number: share
            for number, share in split.items()
        }
        response = endpoint_service.DeployModelResponse(deployed_model=made)
        return self.vertex.operation(response, polls=2)

    def _undeploy(self, request: Any) -> Any:
        endpoint = self._endpoint(request.endpoint)
        if endpoint.traffic_split.get(request.deployed_model_id):
            raise _refuse("FAILED_PRECONDITION", "it has traffic")
        kept = [
            each
            for each in endpoint.deployed_models
            if each.id != request.deployed_model_id
        ]
        if len(kept) == len(endpoint.deployed_models):
            raise _refuse("NOT_FOUND", f"no {request.deployed_model_id}")
        endpoint.deployed_models = kept
        return self.vertex.operation(endpoint_service.UndeployModelResponse())

    def _list_operations(self, request: Any) -> Any:
        found = operations_pb2.ListOperationsResponse()
        if self.running and request.name.endswith(self.running[0]):
            self.running.pop(0)
            found.operations.add(name=f"{request.name}/operations/1", done=False)
        return found


def _short(version: Any) -> str:
    return f"{version.name.rpartition('/')[2]}@{version.version_id}"


# Fields of the schema, and of its parts (Google's reference of
# schema.modelevaluation.metrics.ClassificationEvaluationMetrics).
_METRICS = {"auPrc", "auRoc", "logLoss", "confidenceMetrics", "confusionMatrix"}
_CONFIDENCE = {
    *("confidenceThreshold", "maxPredictions", "confusionMatrix"),
    *("recall", "precision", "falsePositiveRate", "f1Score"),
    *("recallAt1", "precisionAt1", "falsePositiveRateAt1", "f1ScoreAt1"),
    *("f1ScoreMicro", "f1ScoreMacro"),
    *("truePositiveCount", "falsePositiveCount"),
    *("falseNegativeCount", "trueNegativeCount"),
}


def _check_metrics(evaluation: Any) -> None:
    schema = "gs://google-cloud-aiplatform/schema/modelevaluation/"
    if evaluation.metrics_schema_uri != f"{schema}classification_metrics_1.0.0.yaml":
        raise _refuse("INVALID_ARGUMENT", f"schema {evaluation.metrics_schema_uri}")
    metrics = json_format.MessageToDict(type(evaluation).pb(evaluation).metrics)
    unknown = metrics.keys() - _METRICS
    for entry in metrics.get("confidenceMetrics", []):
        unknown |= entry.keys() - _CONFIDENCE
    matrix = metrics.get("confusionMatrix", {})
    unknown |= matrix.keys() - {"annotationSpecs", "rows"}
    for each in matrix.get("annotationSpecs", []):
        unknown |= each.keys() - {"id", "displayName"}
    count = len(matrix.get("annotationSpecs", []))
    if [len(row) for row in matrix.get("rows", [])] != [count] * count:
        raise _refuse("INVALID_ARGUMENT", "rows and annotationSpecs must be as many")
    if unknown:
        raise _refuse("INVALID_ARGUMENT", f"no such fields: {sorted(unknown)}")
