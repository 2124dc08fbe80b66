"""A Vertex AI of this machine's: its gRPC methods, on a loopback port, in memory.

Built from google-cloud-aiplatform's own messages, so that the genuine client library
talks to it. It keeps what it was asked (`calls`), behaves as the service does where the
client depends on it (ids, states, project numbers in names, pages, long-running
operations), and fails when told to (`fail`).

    with StandIn() as vertex:
        vertex.fail("CreatePipelineJob", Fault(grpc.StatusCode.UNAVAILABLE), count=2)
        client = vertex.client(PipelineServiceClient)
        ...
        assert vertex.requests("CreatePipelineJob") == [...]

More services: `StandIn(more={"/google.cloud.aiplatform.v1.ModelService/UploadModel":
(model_service.UploadModelRequest, function)})`, where a function takes the request and
returns a message (`vertex.operation(response)` for a long-running one) or raises
`Refusal(grpc.StatusCode.NOT_FOUND, "...")`.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import itertools
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.cloud import dataflow_v1beta3 as dataflow
from google.cloud.aiplatform_v1.types import (
    custom_job,
    job_service,
    job_state,
    pipeline_job,
    pipeline_service,
    pipeline_state,
    schedule,
    schedule_service,
)
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, empty_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

PROJECT, NUMBER = "stand-in-project", "123456789012"
REGION = "us-central1"
PARENT = f"projects/{PROJECT}/locations/{REGION}"
NAMES = f"projects/{NUMBER}/locations/{REGION}"  # in answers the project is a number

_SERVICE = "/google.cloud.aiplatform.v1."
_DONE = {
    pipeline_state.PipelineState.PIPELINE_STATE_SUCCEEDED,
    pipeline_state.PipelineState.PIPELINE_STATE_FAILED,
    pipeline_state.PipelineState.PIPELINE_STATE_CANCELLED,
}


_ENDED_JOBS = {
    job_state.JobState.JOB_STATE_SUCCEEDED,
    job_state.JobState.JOB_STATE_FAILED,
    job_state.JobState.JOB_STATE_CANCELLED,
}


class Refusal(Exception):
    """A handler's answer that is an error."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Fault:
    """An error that is answered instead of, or after, what was asked for."""

    code: grpc.StatusCode
    message: str = "injected"
    applied: bool = False  # the request takes effect; only the answer is lost
    late_seconds: float = 0.0  # after which it takes effect
    reason: str = ""  # google.rpc.ErrorInfo's, for example SERVICE_DISABLED
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One request as it arrived."""

    method: str  # for example "CreatePipelineJob"
    request: Any
    headers: Mapping[str, str]


class StandIn:
    """The server; a context manager."""

    def __init__(
        self,
        more: Mapping[str, tuple[Any, Callable[[Any], Any]]] | None = None,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        """Starts nothing yet.

        Args:
            more: Method path -> (request class, handler), beyond those of this file.
            credentials: For TLS; none: an insecure port.
        """
        self.calls: list[Call] = []
        self.pipeline_jobs: dict[str, Any] = {}  # by last part of the name
        self.schedules: dict[str, Any] = {}
        self.custom_jobs: dict[str, Any] = {}
        # What happens to a run, one step per GetPipelineJob; each changes the job.
        self.progress: list[Callable[[Any], None]] = []
        # Carries out a custom job in a thread of its own and returns its last state;
        # an exception means JOB_STATE_FAILED with its text.
        # None: the test itself moves jobs, and runs that are being cancelled.
        self.run_custom_job: Callable[[Any], Any] | None = lambda _: (
            job_state.JobState.JOB_STATE_SUCCEEDED
        )
        self.dataflow_jobs: dict[str, Any] = {}
        self.now: Callable[[], float] = time.time
        # Seconds from a custom job's creation until it is listed.
        self.listed_after: Callable[[Any], float] = lambda _: 0.0
        # Cancellations (method -> how many) that are answered, and change nothing.
        self.ignored: dict[str, int] = defaultdict(int)
        self._late: list[tuple[float, Callable[[Any], Any], Any]] = []
        self._faults: dict[str, list[Fault | None]] = defaultdict(list)
        self._operations: dict[str, Any] = {}
        self._numbers = itertools.count(4_200_000_000_000_000_001)
        self._guard = threading.RLock()
        self._credentials = credentials
        self._handlers = dict(_methods(self)) | dict(more or {})
        self.port = 0

    def __enter__(self) -> StandIn:
        self._server = grpc.server(
            concurrent.futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)]
        )
        self._server.add_generic_rpc_handlers([_Handlers(self)])
        if self._credentials is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = self._server.add_secure_port("127.0.0.1:0", self._credentials)
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()

    # ---- for tests ------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        """What CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM is set to."""
        scheme = "http" if self._credentials is None else "https"
        host = "127.0.0.1" if self._credentials is None else "localhost"
        return f"{scheme}://{host}:{self.port}"

    def client(self, client_class: Any) -> Any:
        """A genuine client (`PipelineServiceClient`, ...) that talks to this server."""
        transport = client_class.get_transport_class("grpc")
        channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        return client_class(transport=transport(channel=channel))

    def fail(self, method: str, *faults: Fault | None, count: int = 1) -> None:
        """Lets the next calls of a method fail; None lets one through."""
        self._faults[method] += list(faults) * count

    def requests(self, method: str) -> list[Any]:
        """The requests of one method, in order."""
        return [call.request for call in self.calls if call.method == method]

    @property
    def methods(self) -> list[str]:
        """The names of all methods called, in order."""
        return [call.method for call in self.calls]

    def operation(self, response: Any, polls: int = 1) -> Any:
        """A long-running operation that is done after so many GetOperation calls."""
        name = f"{NAMES}/operations/{next(self._numbers)}"
        packed = any_pb2.Any()
        packed.Pack(getattr(response, "_pb", response))
        done = operations_pb2.Operation(name=name, done=True, response=packed)
        self._operations[name] = [polls, done]
        return done if polls == 0 else operations_pb2.Operation(name=name)

    # ---- the server -----------------------------------------------------------------

    def _answer(self, path: str, request: Any, context: grpc.ServicerContext) -> Any:
        method = path.rsplit("/", 1)[1]
        headers = {key: str(value) for key, value in context.invocation_metadata()}
        with self._guard:
            self.calls.append(Call(method, request, headers))
            fault = self._faults[method].pop(0) if self._faults[method] else None
            if fault is not None and not fault.applied:
                _abort(context, fault)
            self.settle()
            handler = self._handlers[path][1]
            if fault is not None and fault.late_seconds:
                self._late.append((self.now() + fault.late_seconds, handler, request))
                _abort(context, fault)
            try:
                if self.ignored[method]:
                    self.ignored[method] -= 1
                    answer = empty_pb2.Empty()
                else:
                    answer = handler(request)
            except Refusal as refusal:
                answer = Fault(refusal.code, str(refusal))
            if fault is not None:
                _abort(context, fault)
            if isinstance(answer, Fault):
                _abort(context, answer)
        return answer

    def settle(self) -> None:
        """Carries out what was asked for some time ago, and is due."""
        due = [entry for entry in self._late if entry[0] <= self.now()]
        self._late = [entry for entry in self._late if entry[0] > self.now()]
        for _, handler, request in due:
            with contextlib.suppress(Refusal):
                handler(request)

    def _create_pipeline_job(self, request: Any) -> Any:
        identifier = request.pipeline_job_id or f"unnamed-{next(self._numbers)}"
        _check_parent(request.parent)
        if not re.fullmatch("[a-z][-a-z0-9]{0,127}", identifier):
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"bad id {identifier}")
        if identifier in self.pipeline_jobs:
            raise Refusal(
                grpc.StatusCode.ALREADY_EXISTS, f"PipelineJob {identifier} exists"
            )
        job = pipeline_job.PipelineJob(request.pipeline_job)
        job.name = f"{NAMES}/pipelineJobs/{identifier}"
        job.state = pipeline_state.PipelineState.PIPELINE_STATE_PENDING
        job.create_time = job.update_time = self._moment()
        self.pipeline_jobs[identifier] = job
        return job

    def _get_pipeline_job(self, request: Any) -> Any:
        job = _find(self.pipeline_jobs, request.name, "pipelineJobs")
        cancelling = pipeline_state.PipelineState.PIPELINE_STATE_CANCELLING
        if job.state == cancelling and self.run_custom_job:
            job.state = pipeline_state.PipelineState.PIPELINE_STATE_CANCELLED
            job.end_time = self._moment()
        elif self.progress:
            self.progress.pop(0)(job)
        return job

    def _list_pipeline_jobs(self, request: Any) -> Any:
        wanted = _wanted(request.filter, "pipeline_name")
        found = [
            job
            for job in reversed(self.pipeline_jobs.values())
            if wanted in (None, job.pipeline_spec["pipelineInfo"]["name"])
        ]
        page, token = _page(found, request)
        return pipeline_service.ListPipelineJobsResponse(
            pipeline_jobs=page, next_page_token=token
        )

    def _cancel_pipeline_job(self, request: Any) -> Any:
        job = _find(self.pipeline_jobs, request.name, "pipelineJobs")
        if job.state in _DONE:
            raise Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"PipelineJob is in state {job.state.name}",
            )
        job.state = pipeline_state.PipelineState.PIPELINE_STATE_CANCELLING
        return empty_pb2.Empty()

    def _delete_pipeline_job(self, request: Any) -> Any:
        job = _find(self.pipeline_jobs, request.name, "pipelineJobs")
        del self.pipeline_jobs[job.name.rsplit("/", 1)[1]]
        return self.operation(empty_pb2.Empty())

    def _moment(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.now(), datetime.UTC)

    def _create_schedule(self, request: Any) -> Any:
        _check_parent(request.parent)
        made = schedule.Schedule(request.schedule)
        identifier = str(next(self._numbers))
        made.name = f"{NAMES}/schedules/{identifier}"
        made.state = schedule.Schedule.State.ACTIVE
        made.create_time = made.update_time = self._moment()
        made.next_run_time = datetime.datetime(2031, 5, 5, 3, tzinfo=datetime.UTC)
        self.schedules[identifier] = made
        return made

    def _get_schedule(self, request: Any) -> Any:
        return _find(self.schedules, request.name, "schedules")

    def _list_schedules(self, request: Any) -> Any:
        wanted = _wanted(request.filter, "display_name")
        found = [
            each
            for each in reversed(self.schedules.values())
            if wanted in (None, each.display_name)
        ]
        page, token = _page(found, request)
        return schedule_service.ListSchedulesResponse(
            schedules=page, next_page_token=token
        )

    def _pause_schedule(self, request: Any) -> Any:
        states = schedule.Schedule.State
        self._change_schedule(request.name, states.ACTIVE, states.PAUSED)
        return empty_pb2.Empty()

    def _resume_schedule(self, request: Any) -> Any:
        states = schedule.Schedule.State
        found = self._change_schedule(request.name, states.PAUSED, states.ACTIVE)
        found.catch_up = request.catch_up
        return empty_pb2.Empty()

    def _change_schedule(self, name: str, before: Any, after: Any) -> Any:
        found = _find(self.schedules, name, "schedules")
        if found.state != before:
            raise Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"Schedule is in state {found.state.name}",
            )
        found.state = after
        return found

    def _delete_schedule(self, request: Any) -> Any:
        found = _find(self.schedules, request.name, "schedules")
        del self.schedules[found.name.rsplit("/", 1)[1]]
        return self.operation(empty_pb2.Empty(), polls=2)

    def _create_custom_job(self, request: Any) -> Any:
        _check_parent(request.parent)
        job = custom_job.CustomJob(request.custom_job)
        identifier = str(next(self._numbers))
        job.name = f"{NAMES}/customJobs/{identifier}"
        job.state = job_state.JobState.JOB_STATE_RUNNING
        job.create_time = job.start_time = self._moment()
        self.custom_jobs[identifier] = job
        if self.run_custom_job:
            threading.Thread(target=self._carry_out, args=[job], daemon=True).start()
        return custom_job.CustomJob(job)

    def _carry_out(self, job: Any) -> None:
        assert self.run_custom_job
        try:
            state, text = self.run_custom_job(custom_job.CustomJob(job)), ""
        except Exception as error:
            state, text = job_state.JobState.JOB_STATE_FAILED, str(error)
        with self._guard:
            if job.state == job_state.JobState.JOB_STATE_CANCELLING:
                state = job_state.JobState.JOB_STATE_CANCELLED
            if text:
                job.error = status_pb2.Status(code=9, message=text)
            job.end_time = self._moment()
            job.state = state

    def _get_custom_job(self, request: Any) -> Any:
        return custom_job.CustomJob(_find(self.custom_jobs, request.name, "customJobs"))

    def _list_custom_jobs(self, request: Any) -> Any:
        wanted = _wanted_labels(request.filter)
        found = [
            job
            for job in reversed(self.custom_jobs.values())
            if wanted.items() <= dict(job.labels).items()
            and self.now() - job.create_time.timestamp() >= self.listed_after(job)
        ]
        page, token = _page(found, request)
        return job_service.ListCustomJobsResponse(
            custom_jobs=page, next_page_token=token
        )

    def _cancel_custom_job(self, request: Any) -> Any:
        job = _find(self.custom_jobs, request.name, "customJobs")
        if job.state in _ENDED_JOBS:
            raise Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"CustomJob is in state {job.state.name}",
            )
        job.state = job_state.JobState.JOB_STATE_CANCELLING
        return empty_pb2.Empty()

    def _delete_custom_job(self, request: Any) -> Any:
        job = _find(self.custom_jobs, request.name, "customJobs")
        del self.custom_jobs[job.name.rsplit("/", 1)[1]]
        return self.operation(empty_pb2.Empty())

    # Dataflow. Its list has names and states, not all that a job is.

    def add_dataflow_job(self, name: str) -> str:
        """What Beam's own client would create; returns the job's id."""
        identifier = f"2031-01-01_{next(self._numbers)}"
        self.dataflow_jobs[identifier] = dataflow.Job(
            id=identifier,
            name=name,
            current_state=dataflow.JobState.JOB_STATE_RUNNING,
            labels={"hidden": "in-lists"},
        )
        return identifier

    def _list_jobs(self, request: Any) -> Any:
        assert (request.project_id, request.location) == (PROJECT, REGION)
        active = [
            dataflow.Job(id=job.id, name=job.name, current_state=job.current_state)
            for job in self.dataflow_jobs.values()
            if request.filter != dataflow.ListJobsRequest.Filter.ACTIVE
            or job.current_state
            in (
                dataflow.JobState.JOB_STATE_RUNNING,
                dataflow.JobState.JOB_STATE_CANCELLING,
            )
        ]
        page, token = _page(active, request)
        return dataflow.ListJobsResponse(jobs=page, next_page_token=token)

    def _get_job(self, request: Any) -> Any:
        job = self.dataflow_jobs[request.job_id]
        if job.current_state == dataflow.JobState.JOB_STATE_CANCELLING:
            job.current_state = dataflow.JobState.JOB_STATE_CANCELLED
        return job

    def _update_job(self, request: Any) -> Any:
        job = self.dataflow_jobs[request.job_id]
        assert request.job.requested_state == dataflow.JobState.JOB_STATE_CANCELLED
        job.current_state = dataflow.JobState.JOB_STATE_CANCELLING
        return job

    def _get_operation(self, request: Any) -> Any:
        if request.name not in self._operations:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"no operation {request.name}")
        entry = self._operations[request.name]
        entry[0] -= 1
        return operations_pb2.Operation(name=request.name) if entry[0] > 0 else entry[1]


def _methods(server: StandIn) -> Mapping[str, tuple[Any, Callable[[Any], Any]]]:
    """Method path -> (class of the request, who answers), by the services' own names."""
    found = {
        "/google.longrunning.Operations/GetOperation": (
            operations_pb2.GetOperationRequest,
            server._get_operation,
        )
    }
    for name, request_class in (
        ("ListJobs", dataflow.ListJobsRequest),
        ("GetJob", dataflow.GetJobRequest),
        ("UpdateJob", dataflow.UpdateJobRequest),
    ):
        method = re.sub("([A-Z])", r"_\1", name).lower()
        path = f"/google.dataflow.v1beta3.JobsV1Beta3/{name}"
        found[path] = (request_class, getattr(server, method))
    for service, messages, names in (
        ("PipelineService", pipeline_service, "PipelineJob"),
        ("ScheduleService", schedule_service, "Schedule"),
        ("JobService", job_service, "CustomJob"),
    ):
        for name in (
            *(f"Create{names}", f"Get{names}", f"List{names}s", f"Cancel{names}"),
            *(f"Delete{names}", f"Pause{names}", f"Resume{names}"),
        ):
            request_class = getattr(messages, name + "Request", None)
            if request_class is not None:
                method = re.sub("([A-Z])", r"_\1", name).lower()
                found[f"{_SERVICE}{service}/{name}"] = (
                    request_class,
                    getattr(server, method),
                )
    return found


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, server: StandIn) -> None:
        self._server = server

    def service(self, handler_call_details: Any) -> Any:
        path = handler_call_details.method
        if path not in self._server._handlers:
            return None  # gRPC answers UNIMPLEMENTED
        request_class, _ = self._server._handlers[path]
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._server._answer(path, request, context),
            request_deserializer=getattr(
                request_class, "deserialize", getattr(request_class, "FromString", None)
            ),
            response_serializer=lambda m: getattr(m, "_pb", m).SerializeToString(),
        )


def _abort(context: grpc.ServicerContext, fault: Fault) -> None:
    status = status_pb2.Status(code=fault.code.value[0], message=fault.message)
    if fault.reason:
        status.details.add().Pack(
            error_details_pb2.ErrorInfo(
                reason=fault.reason, domain="googleapis.com", metadata=fault.metadata
            )
        )
    context.abort_with_status(rpc_status.to_status(status))


def _check_parent(parent: str) -> None:
    if parent not in (PARENT, NAMES):
        raise Refusal(
            grpc.StatusCode.PERMISSION_DENIED,
            f"Permission denied on resource '//aiplatform.googleapis.com/{parent}' "
            "(or it may not exist).",
        )


def _find(kept: Mapping[str, Any], name: str, collection: str) -> Any:
    for parent in (PARENT, NAMES):
        identifier = name.removeprefix(f"{parent}/{collection}/")
        if identifier in kept:
            return kept[identifier]
    raise Refusal(grpc.StatusCode.NOT_FOUND, f"The resource {name} was not found.")


def _wanted(filter: str, field_name: str) -> str | None:
    """The value that a filter asks for; only `<field>="<value>"` is understood."""
    if not filter:
        return None
    match = re.fullmatch(rf'{field_name}="([^"]*)"', filter)
    if match is None:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"bad filter {filter}")
    return match[1]


def _wanted_labels(filter: str) -> dict[str, str]:
    """The labels that a filter asks for; only `labels.<key>="<value>" AND ...`."""
    wanted = {}
    for term in filter.split(" AND ") if filter else ():
        match = re.fullmatch(r'labels\.([a-z]+)="([a-z0-9_-]*)"', term)
        if match is None:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"bad filter {filter}")
        wanted[match[1]] = match[2]
    return wanted


def _page(found: list[Any], request: Any) -> tuple[list[Any], str]:
    begin = int(request.page_token or 0)
    end = begin + (request.page_size or 100)
    return found[begin:end], str(end) if end < len(found) else ""
