"""What the server answers, whatever the transport: gRPC and REST both call this.

Names in a request are checked here against the signature; types and shapes are for
TensorFlow to say. Texts and codes of errors are tensorflow/serving's where it has one for
the case (servables/tensorflow/{predict_util,classifier,regressor,multi_inference}.cc,
model_servers/{get_model_status_impl,server_core}.cc, tensorflow/cc/saved_model/util.cc).
"""

# pyright: reportArgumentType=false

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)

from serving.server import configuration, metrics, request_log, tensors
from serving.server.configuration import Model
from serving.server.errors import (
    ServingError,
    failed_precondition,
    invalid,
)
from serving.server.manager import Manager, Version
from serving.server.savedmodel import Servable

DEFAULT_SIGNATURE = "serving_default"
_CLASSIFY = "tensorflow/serving/classify"
_REGRESS = "tensorflow/serving/regress"
_PREDICT = "tensorflow/serving/predict"

Signature = meta_graph_pb2.SignatureDef

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """What a handler has to know of the call it answers."""

    deadline: float | None = None  # seconds of time.monotonic()
    cancelled: Callable[[], bool] = lambda: False

    def check(self) -> None:
        """Ends the work on a call that nobody waits for any more.

        Raises:
            ServingError: DEADLINE_EXCEEDED or CANCELLED.
        """
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise ServingError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "The deadline passed before it was done",
            )
        if self.cancelled():
            raise ServingError(grpc.StatusCode.CANCELLED, "The caller has gone")

    def seconds_left(self) -> float | None:
        """Until the deadline."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - time.monotonic())


@dataclass(frozen=True)
class Result:
    """Outputs of a signature by alias, with the version that computed them."""

    signature: Signature
    spec: model_pb2.ModelSpec
    outputs: Mapping[str, np.ndarray]


class Recorder(Protocol):
    """What keeps a sample of the requests."""

    def record(
        self,
        model: str,
        make: Callable[[], prediction_log_pb2.PredictionLog],
        size: int,
        sampling_rate: float | None = None,
    ) -> None:
        """Takes a request with its answer, made only if it is in the sample."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags that concern requests."""

    limits: tensors.Limits = tensors.Limits()
    check_method_names: bool = False
    tensor_content: bool = False  # numbers in answers
    reload_roots: tuple[str, ...] = ()
    # The most that a reload may set: by model, and for others under None. For 1 if empty.
    sampling_rates: Mapping[str | None, float] = field(default_factory=dict)
    recorder: Recorder | None = None


@dataclass
class Service:
    """The operations of PredictionService and ModelService; each may be called by many.

    `places` are for calls that run a model without batching, at the same time.
    """

    manager: Manager
    places: threading.Semaphore
    options: Options = field(default_factory=Options)

    def predict(
        self, request: predict_pb2.PredictRequest, call: Call
    ) -> predict_pb2.PredictResponse:
        """Any signature: tensors in, tensors out."""
        with self._use(request, call) as version:
            runner = self._runner(version, call, "Predict")
            response = runner.predict(request)
        self._record("predict_log", response.model_spec, request, response)
        return response

    def classify(
        self, request: classification_pb2.ClassificationRequest, call: Call
    ) -> classification_pb2.ClassificationResponse:
        """tf.Examples in, labels and scores out."""
        with self._use(request, call) as version:
            runner = self._runner(version, call, "Classify")
            response = runner.classify(request)
        self._record("classify_log", response.model_spec, request, response)
        return response

    def regress(
        self, request: regression_pb2.RegressionRequest, call: Call
    ) -> regression_pb2.RegressionResponse:
        """tf.Examples in, one number for each out."""
        with self._use(request, call) as version:
            response = self._runner(version, call, "Regress").regress(request)
        self._record("regress_log", response.model_spec, request, response)
        return response

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, call: Call
    ) -> inference_pb2.MultiInferenceResponse:
        """Several classify and regress signatures of one model on the same Examples."""
        call.check()
        spec = request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
        with self.manager.use(spec) as version:
            runner = self._runner(version, call, "MultiInference")
            response = runner.multi(request)
        self._record(
            "multi_inference_log", response.results[0].model_spec, request, response
        )
        return response

    def run(
        self,
        spec: model_pb2.ModelSpec,
        make_feeds: Callable[[Signature], Mapping[str, np.ndarray]],
        call: Call,
        api: str = "predict",
    ) -> Result:
        """A Predict on arrays: REST's.

        Args:
            spec: Model, version or label, and signature.
            make_feeds: Makes the arrays when the signature is known; what it returns is
                checked as a request's tensors are.
            call: Of the caller.
            api: For the metrics.
        """
        call.check()
        with self.manager.use(spec) as version:
            runner = self._runner(version, call, api)
            name = spec.signature_name or DEFAULT_SIGNATURE
            signature = runner.servable.signatures.get(name)
            if signature is None:  # not gRPC's text, see http_rest_api_handler.cc
                raise invalid(
                    f'Serving signature name: "{name}" not found in signature def'
                )
            feeds = dict(make_feeds(signature))
            runner.check_aliases(signature, feeds)
            tensors.check_images(feeds, self.options.limits)
            outputs = runner.run(name, feeds, sorted(signature.outputs))
            result = Result(signature, runner.spec(name), outputs)
        recorder = self.options.recorder
        if recorder is not None:
            recorder.record(
                result.spec.name,
                lambda: request_log.predict_log(result.spec, feeds, outputs),
                sum(array.nbytes for array in feeds.values()),
                self.manager.sampling_rate(result.spec.name),
            )
        return result

    def get_model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, call: Call
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures."""
        del call
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid(
                "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for name in request.metadata_field:
            if name != "signature_def":
                raise invalid(f"Metadata field {name} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self.manager.use(request.model_spec) as version:
            for name, signature in _servable(version).signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
            response.model_spec.name = version.model
            response.model_spec.version.value = version.number
        # The same bytes each time: REST keeps the JSON that it makes of them.
        response.metadata["signature_def"].Pack(signatures, deterministic=True)
        return response

    def get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest, call: Call
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """States of versions, with the error of those that failed to load."""
        del call
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state, code, error in self.manager.statuses(request.model_spec):
            status = response.model_version_status.add(version=number, state=int(state))
            status.status.SetInParent()
            if error:
                status.status.error_code = code.value[0]
                status.status.error_message = error
        return response

    def reload_config(
        self, request: model_management_pb2.ReloadConfigRequest, call: Call
    ) -> model_management_pb2.ReloadConfigResponse:
        """Replaces the list of models.

        tensorflow_model_server loads whatever folder such a request names. A SavedModel
        is a program, and this port may be open to many; so here the folder has to be one
        of those given at start, or below one of them or of --reload_roots.
        """
        try:
            if request.config.WhichOneof("config") != "model_config_list":
                raise invalid(
                    "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                    "Only ModelConfigList is currently supported"
                )
            models = configuration.models(request.config)
            for name, model in models.items():
                models[name] = dataclasses.replace(
                    model,
                    base_path=self._checked_path(model),
                    sampling_rate=self._checked_rate(model),
                )
            self.manager.reload(models, call.check)
        except ServingError as error:
            _log.error("ReloadConfig failed: %s", error.message)
            raise
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response

    def warm_up(self, version: Version, log: prediction_log_pb2.PredictionLog) -> None:
        """Replays one record of a warm-up file on a version that is not served yet.

        As in tensorflow/serving, servables/tensorflow/saved_model_warmup.cc: a record
        that holds nothing, or a kind of later date, is passed over.
        """
        runner = self._runner(version, Call(), "WarmUp")
        kind = log.WhichOneof("log_type")
        if kind == "predict_log":
            runner.predict(log.predict_log.request)
        elif kind == "classify_log":
            runner.classify(log.classify_log.request)
        elif kind == "regress_log":
            runner.regress(log.regress_log.request)
        elif kind == "multi_inference_log":
            runner.multi(log.multi_inference_log.request)
        elif kind == "session_run_log":
            number = log.DESCRIPTOR.fields_by_name[kind].number
            raise ServingError(
                grpc.StatusCode.UNIMPLEMENTED,
                f"Unsupported log_type for warmup: {number}",
            )

    def label(self, model: str) -> str:
        """Of a model that a request names, for the metrics."""
        return model if self.manager.configured(model) else metrics.OTHER

    def model_names(self) -> list[str]:
        """Models that can be asked now."""
        return sorted(name for name, found in self.manager.available().items() if found)

    def _record(
        self, kind: str, spec: model_pb2.ModelSpec, request: Any, response: Any
    ) -> None:
        recorder = self.options.recorder
        if recorder is None:
            return

        def make() -> prediction_log_pb2.PredictionLog:
            log = prediction_log_pb2.PredictionLog()
            log.log_metadata.model_spec.CopyFrom(spec)
            log.log_metadata.timestamp_secs = int(time.time())
            getattr(log, kind).request.CopyFrom(request)
            getattr(log, kind).response.CopyFrom(response)
            return log

        rate = self.manager.sampling_rate(spec.name)
        recorder.record(spec.name, make, request.ByteSize(), rate)

    def _use(
        self, request: Any, call: Call
    ) -> contextlib.AbstractContextManager[Version]:
        """The version that a request names."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        call.check()
        return self.manager.use(request.model_spec)

    def _runner(self, version: Version, call: Call, api: str) -> Runner:
        return Runner(version, _servable(version), self.options, self.places, call, api)

    def _checked_rate(self, model: Model) -> float | None:
        """Who may reload does not decide that more of the callers' data are kept."""
        rates, rate = self.options.sampling_rates, model.sampling_rate
        most = rates.get(model.name, rates.get(None, 1.0))
        if rate is None:
            return rates.get(model.name)
        if not rate <= most:  # also if it is not a number
            raise ServingError(
                grpc.StatusCode.PERMISSION_DENIED,
                f"logging_config of model {model.name} has a sampling_rate of {rate:g}, "
                f"but the server was started with {most:g}, and a reload may not raise it",
            )
        return rate

    def _checked_path(self, model: Model) -> str:
        """The folder to open: one of the roots as it was given, or one really below.

        Paths that are not below a root by their text are not looked up anywhere. Links
        of others are followed now, so that what is opened is what was checked.
        """
        path = os.path.normpath(model.base_path)
        roots = self.options.reload_roots
        if path in roots:
            return path
        real_roots = [os.path.realpath(root) for root in roots]
        if any(_below(path, root) for root in (*roots, *real_roots)):
            with contextlib.suppress(ValueError, OSError):  # no path at all
                real = os.path.realpath(path)
                if any(_below(real, root) for root in real_roots):
                    return real
        raise ServingError(
            grpc.StatusCode.PERMISSION_DENIED,
            f"base_path of model {model.name} is not below a folder given at start; "
            "start the server with --reload_roots to allow more",
        )


@dataclass(frozen=True)
class Runner:
    """One request on one version."""

    version: Version
    servable: Servable
    options: Options
    places: threading.Semaphore
    call: Call
    api: str

    def predict(
        self, request: predict_pb2.PredictRequest
    ) -> predict_pb2.PredictResponse:
        """See Service."""
        name, signature = self.find(request.model_spec)
        if self.options.check_method_names:
            self._check_method(signature)
        self.check_aliases(signature, request.inputs)
        feeds = tensors.to_arrays(
            {**signature.defaults, **request.inputs}, self.options.limits
        )
        fetches = self._fetches(signature, request.output_filter)
        outputs = self.run(name, feeds, fetches)
        response = predict_pb2.PredictResponse(model_spec=self.spec(name))
        for alias in fetches:
            tensors.to_proto(
                outputs[alias],
                response.outputs[alias],
                content=self.options.tensor_content,
            )
        return response

    def classify(
        self, request: classification_pb2.ClassificationRequest
    ) -> classification_pb2.ClassificationResponse:
        """See Service."""
        name, signature = self._find_for_examples(request.model_spec, _CLASSIFY)
        outputs, count = self._run_examples(name, signature, request.input)
        result = _classifications(outputs, count)
        return classification_pb2.ClassificationResponse(
            model_spec=self.spec(name), result=result
        )

    def regress(
        self, request: regression_pb2.RegressionRequest
    ) -> regression_pb2.RegressionResponse:
        """See Service."""
        name, signature = self._find_for_examples(request.model_spec, _REGRESS)
        outputs, count = self._run_examples(name, signature, request.input)
        return regression_pb2.RegressionResponse(
            model_spec=self.spec(name), result=_regressions(outputs, count)
        )

    def multi(
        self, request: inference_pb2.MultiInferenceRequest
    ) -> inference_pb2.MultiInferenceResponse:
        """See Service."""
        plan = list(self._plan(request))
        if not plan:
            raise invalid("MultiInferenceRequest has no tasks")
        response = inference_pb2.MultiInferenceResponse()
        for name, signature, method in plan:
            outputs, count = self._run_examples(name, signature, request.input)
            result = response.results.add(model_spec=self.spec(name))
            if method == _CLASSIFY:
                result.classification_result.CopyFrom(_classifications(outputs, count))
            else:
                result.regression_result.CopyFrom(_regressions(outputs, count))
        return response

    def find(self, spec: model_pb2.ModelSpec) -> tuple[str, Signature]:
        """The signature that a Predict names."""
        name = spec.signature_name or DEFAULT_SIGNATURE
        signature = self.servable.signatures.get(name)
        if signature is None:
            raise failed_precondition(f'Serving signature key "{name}" not found.')
        return name, signature

    def check_aliases(self, signature: Signature, given: Mapping[str, Any]) -> None:
        """That inputs have the signature's names."""
        names, wanted = set(given), set(signature.inputs)
        missing = wanted - names
        if len(names) > len(wanted) or (
            len(names) < len(wanted) and not signature.defaults
        ):
            raise invalid(
                f"input size does not match signature: {len(names)}!={len(wanted)} "
                f"len({_set(names)}) != len({_set(wanted)}). Sent extra: "
                f"{_set(names - wanted)}. Missing but required: {_set(missing)}."
            )
        for alias in sorted(missing - set(signature.defaults)):
            raise invalid(
                f"Signature input alias: {alias}(feed name: "
                f"{signature.inputs[alias].name}) not found in request and no default "
                f"value provided. Inputs expected to be in the request {_set(names)}, "
                f"or default input alias set: {_set(signature.defaults)}"
            )
        if names - wanted:
            raise invalid(
                f"Inputs contains invalid name. Used request inputs: "
                f"{','.join(sorted(names & wanted))}, request input: "
                f"{','.join(sorted(names))}"
            )

    def run(
        self, signature: str, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]
    ) -> Mapping[str, np.ndarray]:
        """Runs checked arrays, in a batch with other calls' if that is wanted."""
        began = time.perf_counter()
        try:
            call = self.call
            if self.version.batching is not None:
                # All outputs, whatever the filter: so there is one queue per signature.
                return self.version.batcher(signature).submit(
                    feeds, call.deadline, call.cancelled
                )
            with self._place():
                call.check()
                return self.servable.run(signature, feeds, fetches)
        finally:
            if self.api != "WarmUp":
                metrics.observe_runtime(
                    self.version.model,
                    self.api,
                    self.servable.runtime,
                    time.perf_counter() - began,
                )

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        """Waits until a model may be run; past the deadline, `check` has something to say."""
        if not self.places.acquire(timeout=self.call.seconds_left()):
            yield
            return
        try:
            yield
        finally:
            self.places.release()

    def spec(self, signature: str) -> model_pb2.ModelSpec:
        """What answers carry: the version that computed them."""
        spec = model_pb2.ModelSpec(name=self.version.model, signature_name=signature)
        spec.version.value = self.version.number
        return spec

    def _fetches(self, signature: Signature, wanted: Sequence[str]) -> list[str]:
        fetches: list[str] = []
        for alias in wanted:
            if alias not in signature.outputs:
                raise invalid(
                    f"output tensor alias not found in signature: {alias} Outputs "
                    f"expected to be in the set {_set(signature.outputs)}."
                )
            if alias in fetches:
                raise invalid(f"duplicate output tensor alias: {alias}")
            fetches.append(alias)
        return fetches or sorted(signature.outputs)

    def _check_method(self, signature: Signature) -> None:
        if signature.method_name not in (_PREDICT, _CLASSIFY, _REGRESS):
            raise ServingError(
                grpc.StatusCode.INTERNAL,
                f"Expected prediction signature method_name to be one of {{{_PREDICT}, "
                f"{_CLASSIFY}, {_REGRESS}}}. Was: {signature.method_name}",
            )

    def _find_for_examples(
        self, spec: model_pb2.ModelSpec, method: str
    ) -> tuple[str, Signature]:
        name = spec.signature_name or DEFAULT_SIGNATURE
        signature = self.servable.signatures.get(name)
        if signature is None:
            raise invalid(f"No signature was found with the name: {name}")
        self._check_for_examples(signature, method)
        return name, signature

    def _check_for_examples(self, signature: Signature, method: str) -> None:
        """That a signature has the form that Classify or Regress needs."""
        kind = "classification" if method == _CLASSIFY else "regression"
        if self.options.check_method_names and signature.method_name != method:
            raise invalid(
                f"Expected {kind} signature method_name to be {method}. Was: "
                f"{signature.method_name}"
            )
        if len(signature.inputs) != 1:
            raise invalid("Expected one input Tensor.")
        count = len(signature.outputs)
        if method == _CLASSIFY and count not in (1, 2):
            raise invalid(f"Expected one or two output Tensors, found {count}")
        if method == _REGRESS and count != 1:
            raise invalid("Expected one output Tensor.")
        if "inputs" not in signature.inputs:
            raise failed_precondition(
                f"No {kind} inputs found in SignatureDef: {signature}"
            )
        if method == _CLASSIFY and not {"classes", "scores"} & set(signature.outputs):
            raise failed_precondition(
                "Expected classification signature outputs to contain at least one of "
                f'"classes" or "scores". Signature was: {signature}'
            )
        if method == _REGRESS and "outputs" not in signature.outputs:
            raise failed_precondition(
                f"No regression outputs found in SignatureDef: {signature}"
            )

    def _plan(
        self, request: inference_pb2.MultiInferenceRequest
    ) -> Iterator[tuple[str, Signature, str]]:
        """Signatures and methods of a MultiInference, checked."""
        seen: set[str] = set()
        model = ""
        for task in request.tasks:
            if not task.model_spec.name:
                raise invalid("Found ModelSpec with an empty model name.")
            if model and model != task.model_spec.name:
                raise invalid(
                    "All ModelSpecs in a MultiInferenceRequest must access the same "
                    "model name."
                )
            model = task.model_spec.name
            name = task.model_spec.signature_name or DEFAULT_SIGNATURE
            if name in seen:
                raise invalid(f"Duplicate evaluation of signature: {name}")
            seen.add(name)
            signature = self.servable.signatures.get(name)
            if signature is None:
                raise invalid(f"Requested signature not found in model graph: {name}")
            if task.method_name not in (_CLASSIFY, _REGRESS):
                raise ServingError(
                    grpc.StatusCode.UNIMPLEMENTED,
                    f"Unsupported signature method_name: {task.method_name}",
                )
            self._check_for_examples(signature, task.method_name)
            yield name, signature, task.method_name

    def _run_examples(
        self, name: str, signature: Signature, given: input_pb2.Input
    ) -> tuple[Mapping[str, np.ndarray], int]:
        examples = _serialized_examples(given)
        if self.api != "WarmUp":
            metrics.observe_examples(self.version.model, len(examples))
        array = np.empty(len(examples), object)
        array[:] = examples
        names = sorted(signature.outputs)
        return self.run(name, {"inputs": array}, names), len(examples)


def _servable(version: Version) -> Servable:
    assert version.servable is not None  # an available version has one
    return version.servable


def _serialized_examples(given: input_pb2.Input) -> list[bytes]:
    kind = given.WhichOneof("kind")
    if kind == "example_list":
        examples = [item.SerializeToString() for item in given.example_list.examples]
    elif kind == "example_list_with_context":
        # Concatenated messages are merged messages: the context's features come first.
        context = given.example_list_with_context.context.SerializeToString()
        examples = [
            context + item.SerializeToString()
            for item in given.example_list_with_context.examples
        ]
    else:
        examples = []
    if not examples:
        raise invalid("Input is empty.")
    return examples


def _classifications(
    outputs: Mapping[str, np.ndarray], count: int
) -> classification_pb2.ClassificationResult:
    classes, scores = outputs.get("classes"), outputs.get("scores")
    for name, array, dtype in (
        ("classes", classes, object),
        ("scores", scores, np.float32),
    ):
        if array is None:
            continue
        if array.ndim != 2:
            raise invalid(
                "Expected Tensor shape: [batch_size num_classes] but got "
                f"{_shape(array)}"
            )
        if array.dtype != dtype:
            wanted = "DT_STRING" if dtype is object else "DT_FLOAT"
            raise invalid(
                f"Expected {name} Tensor of {wanted}. Got: {tensors.dtype_name(array)}"
            )
        if len(array) != count:
            raise invalid(
                f"Expected {name} output batch size of {count}. Got: {len(array)}"
            )
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise invalid(
            "Tensors class and score should match in dim_size(1). Got "
            f"{classes.shape[1]} vs. {scores.shape[1]}"
        )
    result = classification_pb2.ClassificationResult()
    present = classes if classes is not None else scores
    assert present is not None  # _check_for_examples has seen to it
    for row in range(count):
        added = result.classifications.add()
        for column in range(present.shape[1]):
            item = added.classes.add()
            if classes is not None:
                item.label = classes[row, column].decode("utf-8", "replace")
            if scores is not None:
                item.score = scores[row, column]
    return result


def _regressions(
    outputs: Mapping[str, np.ndarray], count: int
) -> regression_pb2.RegressionResult:
    values = outputs["outputs"]
    if values.ndim != 1 and not (values.ndim == 2 and values.shape[1] == 1):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] "
            f"but got {_shape(values)}"
        )
    if len(values) != count:
        raise invalid(
            "Input batch size did not match output batch size: "
            f"{count} vs. {len(values)}"
        )
    if values.dtype != np.float32:
        raise invalid(
            f"Expected output Tensor of DT_FLOAT.  Got: {tensors.dtype_name(values)}"
        )
    result = regression_pb2.RegressionResult()
    for value in values.reshape(-1):
        result.regressions.add(value=value)
    return result


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _set(names: Any) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _shape(array: np.ndarray) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"
