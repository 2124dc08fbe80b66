"""Talks to Vertex AI about runs and schedules, through Google's client.

It uses google-cloud-aiplatform's service clients (PipelineServiceClient,
ScheduleServiceClient), not its `aiplatform.PipelineJob`: that one first looks for the
bucket, for two minutes where it cannot see it, sets fields of its own, and leaves
retries to chance. Here a request is what was asked for, has a deadline, and is tried
again only where a second arrival does nothing:

- reads; what puts a thing into a state (cancel, pause, resume, delete);
- the creation of a run, whose id is chosen here: the second one is answered
  ALREADY_EXISTS, and a label tells whether the run is ours;
- never the creation of a schedule, whose id the service chooses, before a look at the
  list says that the first one is not there.

Importing this takes seconds (Google's client); commands import it late.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import google.auth
import google.auth.exceptions
import grpc
from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.api_core.future.polling import DEFAULT_POLLING
from google.api_core.gapic_v1.client_info import ClientInfo
from google.cloud.aiplatform_v1.services.pipeline_service import PipelineServiceClient
from google.cloud.aiplatform_v1.services.schedule_service import ScheduleServiceClient
from google.cloud.aiplatform_v1.types import (
    pipeline_job,
    pipeline_service,
    schedule,
    schedule_service,
)
from google.protobuf import field_mask_pb2, json_format

from pipeline.vertex.place import Place, VertexError

Say = Callable[[str], None]  # shows a line to the person who waits

DEADLINE_SECONDS = 60.0  # of one request
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before the second, third, ... attempt
SUBMISSION = "submission"  # label: digest of what was asked for, under which id
PAGE = 100

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_LISTED = ("name", "state", "display_name", "create_time", "start_time", "end_time")
_LOGIN = "sign in with `gcloud auth application-default login`"


class RequestFailed(VertexError):
    """The service, or the way to it, answered with an error."""

    def __init__(self, message: str, code: grpc.StatusCode | None) -> None:
        super().__init__(message)
        self.code = code


@contextlib.contextmanager
def connect(
    place: Place, say: Say, waits: Sequence[float] = WAITS
) -> Iterator[Service]:
    """Opens the service; nothing is sent yet.

    Args:
        place: Project, region and address.
        say: Told of each attempt that failed and is repeated.
        waits: Seconds before each repetition.

    Raises:
        VertexError: There are no application default credentials.
    """
    clients: list[Any] = [
        google_client(kind, place)
        for kind in (PipelineServiceClient, ScheduleServiceClient)
    ]
    try:
        yield Service(clients[0], clients[1], place, Caller(place, say, waits))
    finally:
        for client in clients:
            client.transport.close()


def google_client(kind: Any, place: Place, address: str | None = None) -> Any:
    """Google's client of a service, with credentials, or without on this machine.

    Args:
        kind: Its class.
        place: Where it is.
        address: Of another service than Vertex AI.

    Raises:
        VertexError: There are no application default credentials.
    """
    if not place.secure:
        return place.open_insecure(kind)
    try:
        with warnings.catch_warnings():
            # Google's remark on a quota project; if it matters, the error says so.
            warnings.simplefilter("ignore", UserWarning)
            credentials, _ = google.auth.default(scopes=_SCOPES)
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise VertexError(
            f"no Google Cloud credentials ({_one_line(str(error), 160)}); {_LOGIN}, or set "
            "GOOGLE_APPLICATION_CREDENTIALS to the file of a service account's key"
        ) from None
    except google.auth.exceptions.GoogleAuthError as error:  # found, but refused
        raise VertexError(
            f"the Google Cloud credentials cannot be used ({_one_line(str(error))}); "
            f"{_LOGIN}"
        ) from None
    return kind(
        credentials=credentials,
        client_options=ClientOptions(api_endpoint=address or place.target),
        client_info=ClientInfo(user_agent="cifar-resnet-pipeline"),
    )


class Caller:
    """Sends requests, again while the service does not answer."""

    def __init__(self, place: Place, say: Say, waits: Sequence[float] = WAITS) -> None:
        """See `connect`."""
        self._place = place
        self.say = say
        self.waits = waits

    def send(
        self,
        doing: str,
        method: Callable[..., Any],
        request: Any,
        *,
        waits: Sequence[float] | None = None,
        say: Say | None = None,
    ) -> Any:
        """Sends one request.

        Args:
            doing: What is going on, for a person.
            method: Of a service client.
            request: Its request.
            waits: Seconds before each repetition; None: the service's own.
            say: Told before each repetition; None: the service's own.

        Raises:
            RequestFailed: The error of the last attempt in one line.
        """
        waits = self.waits if waits is None else waits
        for attempt, wait in enumerate((*waits, None), 1):
            try:
                return method(request=request, retry=None, timeout=DEADLINE_SECONDS)
            except exceptions.GoogleAPICallError as error:
                code = error.grpc_status_code
                if wait is None or code not in _PASSING or _about_credentials(error):
                    raise explained(error, doing, self._place, attempt) from error
                (say or self.say)(
                    f"{doing}: {_PLAIN[code]} ({_words(error, 120)}); attempt "
                    f"{attempt + 1} of {len(waits) + 1} in {wait:g} s"
                )
                time.sleep(wait)
            except google.auth.exceptions.GoogleAuthError as error:
                raise RequestFailed(
                    f"{doing}: the credentials cannot be used "
                    f"({_one_line(str(error))}); {_LOGIN}",
                    None,
                ) from error
        raise AssertionError("unreachable")

    def pages(
        self, doing: str, method: Callable[..., Any], request: Any
    ) -> Iterator[Any]:
        """Sends a list's request for one page after the other; as `send`.

        Args:
            doing: As of `send`.
            method: Of a service client.
            request: With a page size; it is changed.

        Yields:
            Each page's answer.
        """
        while True:
            answer = self.send(doing, method, request)
            yield answer
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token


class Service:
    """Runs and schedules in one region of a project."""

    def __init__(
        self,
        pipelines: PipelineServiceClient,
        schedules: ScheduleServiceClient,
        place: Place,
        caller: Caller,
    ) -> None:
        """See `connect`."""
        self._pipelines = pipelines
        self._schedules = schedules
        self._place = place
        self._send = caller.send
        self._pages = caller.pages
        self._say = caller.say
        self._waits = caller.waits

    # ---- runs -----------------------------------------------------------------------

    def create_run(
        self, job: Mapping[str, Any], run_id: str
    ) -> pipeline_job.PipelineJob:
        """Starts a run; asking again with the same job and id starts no second one.

        Args:
            job: PipelineJob as JSON.
            run_id: Last part of the run's name.

        Raises:
            VertexError: It was not created, or the id belongs to another run.
        """
        message = run_message(job, run_id)
        request = pipeline_service.CreatePipelineJobRequest(
            parent=self._place.parent, pipeline_job=message, pipeline_job_id=run_id
        )
        doing = f"creating run {run_id}"
        try:
            return self._send(doing, self._pipelines.create_pipeline_job, request)
        except RequestFailed as error:
            if error.code is not grpc.StatusCode.ALREADY_EXISTS:
                raise
        found = self.run(run_id)
        if found.labels.get(SUBMISSION) != message.labels[SUBMISSION]:
            raise VertexError(
                f"{doing}: {self._place.resource('pipelineJobs', run_id)} exists and runs "
                "something else; give another --run_id"
            )
        self._say(f"run {run_id} had been created by an earlier attempt")
        return found

    def run(self, run_id: str) -> pipeline_job.PipelineJob:
        """Reads a run with its tasks."""
        name = self._place.resource("pipelineJobs", run_id)
        request = pipeline_service.GetPipelineJobRequest(name=name)
        return self._send(
            f"reading run {run_id}", self._pipelines.get_pipeline_job, request
        )

    def runs(self, pipeline_name: str, most: int) -> list[pipeline_job.PipelineJob]:
        """The latest runs of a pipeline, however they were started; without tasks."""
        request = pipeline_service.ListPipelineJobsRequest(
            parent=self._place.parent,
            filter=f'pipeline_name="{pipeline_name}"',
            order_by="create_time desc",
            page_size=most,
            read_mask=field_mask_pb2.FieldMask(paths=_LISTED),
        )
        answer = self._send("listing runs", self._pipelines.list_pipeline_jobs, request)
        return list(answer.pipeline_jobs)[:most]

    def cancel_run(self, run_id: str) -> None:
        """Asks a run to stop; it does so a little later."""
        name = self._place.resource("pipelineJobs", run_id)
        request = pipeline_service.CancelPipelineJobRequest(name=name)
        self._send(
            f"cancelling run {run_id}", self._pipelines.cancel_pipeline_job, request
        )

    # ---- schedules ------------------------------------------------------------------

    def create_schedule(self, wanted: schedule.Schedule) -> schedule.Schedule:
        """Creates a schedule, once.

        Args:
            wanted: From `schedule_message`; the display name must be free (`schedules`).

        Raises:
            VertexError: It was not created, or nobody knows.
        """
        doing = f"creating schedule {wanted.display_name}"
        request = schedule_service.CreateScheduleRequest(
            parent=self._place.parent, schedule=wanted
        )
        for attempt, wait in enumerate((*self._waits, None), 1):
            try:
                return self._send(
                    doing, self._schedules.create_schedule, request, waits=()
                )
            except RequestFailed as error:
                if error.code not in _PASSING:
                    raise
                self._say(f"{doing}: no answer; looking whether it was created")
                time.sleep(self._waits[0] if wait is None else wait)
                found = self._same(wanted, error)
                if found is not None:
                    self._say(f"schedule {wanted.display_name} was created")
                    return found
                # After a missed deadline the service may still be at it: a second
                # request could make a second schedule.
                if wait is None or error.code is not grpc.StatusCode.UNAVAILABLE:
                    raise
                self._say(f"it was not; attempt {attempt + 1} follows")
        raise AssertionError("unreachable")

    def _same(
        self, wanted: schedule.Schedule, error: RequestFailed
    ) -> schedule.Schedule | None:
        """The schedule on the service's list that our request made, despite an error."""

        def submission(of: schedule.Schedule) -> str | None:
            job = of.create_pipeline_job_request.pipeline_job
            return job.labels.get(SUBMISSION)

        try:
            found = self.schedules(wanted.display_name)
        except RequestFailed:
            raise RequestFailed(
                f"{error}; whether it exists could not be asked either, look with "
                "`schedule list` before another attempt",
                error.code,
            ) from error
        for each in found:
            if submission(each) == submission(wanted):
                return each
        return None

    def schedules(self, display_name: str | None = None) -> list[schedule.Schedule]:
        """All schedules, or those of a name, newest first."""
        request = schedule_service.ListSchedulesRequest(
            parent=self._place.parent,
            filter=f'display_name="{display_name}"' if display_name else "",
            order_by="create_time desc",
            page_size=PAGE,
        )
        pages = self._pages(
            "listing schedules", self._schedules.list_schedules, request
        )
        return [each for page in pages for each in page.schedules]

    def schedule(self, identifier: str) -> schedule.Schedule:
        """Reads a schedule."""
        name = self._place.resource("schedules", identifier)
        request = schedule_service.GetScheduleRequest(name=name)
        return self._send(
            f"reading schedule {identifier}", self._schedules.get_schedule, request
        )

    def pause_schedule(self, identifier: str) -> None:
        """Lets a schedule start no more runs; those that go on go on."""
        name = self._place.resource("schedules", identifier)
        request = schedule_service.PauseScheduleRequest(name=name)
        self._change(identifier, "pausing", self._schedules.pause_schedule, request)

    def resume_schedule(self, identifier: str, catch_up: bool) -> None:
        """Lets a paused schedule go on, with or without the runs it missed."""
        name = self._place.resource("schedules", identifier)
        request = schedule_service.ResumeScheduleRequest(name=name, catch_up=catch_up)
        self._change(identifier, "resuming", self._schedules.resume_schedule, request)

    def _change(self, identifier: str, verb: str, method: Any, request: Any) -> None:
        wanted = {"pausing": "PAUSED", "resuming": "ACTIVE"}[verb]
        try:
            self._send(f"{verb} schedule {identifier}", method, request)
        except RequestFailed as error:
            # An attempt whose answer was lost may have done it already.
            if (
                error.code is not grpc.StatusCode.FAILED_PRECONDITION
                or self.schedule(identifier).state.name != wanted
            ):
                raise

    def delete_schedule(self, identifier: str) -> None:
        """Deletes a schedule and waits until it is gone; its runs stay."""
        name = self._place.resource("schedules", identifier)
        request = schedule_service.DeleteScheduleRequest(name=name)
        doing = f"deleting schedule {identifier}"
        attempts = 0

        def count(line: str) -> None:
            nonlocal attempts
            attempts += 1
            self._say(line)

        try:
            operation = self._send(
                doing, self._schedules.delete_schedule, request, say=count
            )
        except RequestFailed as error:
            if attempts and error.code is grpc.StatusCode.NOT_FOUND:
                return  # an attempt whose answer was lost has done it
            raise
        polling = DEFAULT_POLLING.with_delay(initial=0.5, maximum=5.0)
        try:
            operation.result(timeout=DEADLINE_SECONDS, polling=polling)
        except (exceptions.GoogleAPIError, TimeoutError) as error:
            raise VertexError(
                f"{doing}: Vertex AI took the request, but has not said that it is done "
                f"({_one_line(str(error))}); look with `schedule list`"
            ) from error


# ---- messages ------------------------------------------------------------------------


def run_message(job: Mapping[str, Any], key: str) -> pipeline_job.PipelineJob:
    """A compiled job as the service's message, with the label that recognises it.

    Args:
        job: PipelineJob as JSON.
        key: What else belongs to the submission: the run's id, the schedule's times.
    """
    text = json.dumps(job, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(f"{key}\n{text}".encode()).hexdigest()
    message = pipeline_job.PipelineJob()
    json_format.ParseDict(dict(job), pipeline_job.PipelineJob.pb(message))
    message.labels[SUBMISSION] = digest[:32]
    return message


def schedule_message(
    place: Place, job: Mapping[str, Any], key: str, **settings: Any
) -> schedule.Schedule:
    """The service's message for a schedule of runs.

    Args:
        place: Where the runs go.
        job: PipelineJob as JSON.
        key: Distinguishes this command from every other.
        **settings: Fields of Schedule; None leaves one out.
    """
    return schedule.Schedule(
        create_pipeline_job_request=pipeline_service.CreatePipelineJobRequest(
            parent=place.parent, pipeline_job=run_message(job, key)
        ),
        **{name: value for name, value in settings.items() if value is not None},
    )


# ---- errors --------------------------------------------------------------------------

_Code = grpc.StatusCode
_PLAIN: Mapping[grpc.StatusCode | None, str] = {
    _Code.UNAVAILABLE: "Vertex AI cannot be reached",
    _Code.DEADLINE_EXCEEDED: f"Vertex AI did not answer within {DEADLINE_SECONDS:g} s",
    _Code.PERMISSION_DENIED: "permission denied",
    _Code.UNAUTHENTICATED: "the credentials were not accepted",
    _Code.RESOURCE_EXHAUSTED: "a quota is used up",
    _Code.NOT_FOUND: "not found",
    _Code.INVALID_ARGUMENT: "Vertex AI refuses the request",
    _Code.FAILED_PRECONDITION: "not possible in the present state",
    _Code.ALREADY_EXISTS: "exists already",
}
_REMEDIES: Mapping[grpc.StatusCode | None, str] = {
    _Code.UNAVAILABLE: "check the network and vertex.region={region}, and try again later",
    _Code.DEADLINE_EXCEEDED: "look with `status` or `schedule list` whether it was done, "
    "and try again",
    _Code.PERMISSION_DENIED: "check vertex.project={project}; your account needs "
    "roles/aiplatform.user there",
    _Code.UNAUTHENTICATED: _LOGIN,
    _Code.RESOURCE_EXHAUSTED: "wait until other work has ended, ask for more at "
    "https://console.cloud.google.com/iam-admin/quotas?project={project}, or choose "
    "another vertex.region or vertex.hardware",
    _Code.NOT_FOUND: "check --project and --region; `status` lists the runs, `schedule "
    "list` the schedules",
    _Code.INVALID_ARGUMENT: "correct the value that it names",
    _Code.FAILED_PRECONDITION: "look with `status` or `schedule list`",
}
# By the reason that the service gives with its error.
_REASONS = {
    "SERVICE_DISABLED": (
        "the Vertex AI API is switched off",
        "switch it on with `gcloud services enable aiplatform.googleapis.com --project "
        "{project}` and wait some minutes",
    ),
    "BILLING_DISABLED": (
        "the project has no billing account",
        "link one at https://console.cloud.google.com/billing/linkedaccount?project="
        "{project}",
    ),
}


def explained(
    error: exceptions.GoogleAPICallError, doing: str, place: Place, attempts: int = 1
) -> RequestFailed:
    """One line for a person: what, where, the service's words, and what to do."""
    code = error.grpc_status_code
    plain = _PLAIN.get(code, f"Vertex AI failed with {code.name if code else error}")
    remedy = _REMEDIES.get(code, "try again later")
    said = _words(error)
    if error.reason in _REASONS:
        plain, remedy = _REASONS[error.reason]
    elif code is _Code.PERMISSION_DENIED and re.search(r"\bact ?as\b", said, re.I):
        remedy = (
            "your account needs roles/iam.serviceAccountUser on the service account that "
            "the run uses (vertex.service_account)"
        )
    elif _about_credentials(error):
        plain, remedy = "the credentials cannot be used", _LOGIN
    tries = f" in {attempts} attempts" if attempts > 1 and code in _PASSING else ""
    remedy = remedy.format(project=place.project, region=place.region)
    return RequestFailed(
        f"{doing} in project {place.project}, region {place.region}: {plain}{tries} "
        f"({said}); {remedy}",
        code,
    )


def _about_credentials(error: exceptions.GoogleAPICallError) -> bool:
    """Whether it is gRPC's UNAVAILABLE for a token that could not be had."""
    return "Getting metadata from plugin failed" in str(error.message)


def _words(error: exceptions.GoogleAPICallError, most: int = 400) -> str:
    """The service's own words."""
    return _one_line(str(error.message), most) or "no details"


def _one_line(text: str, most: int = 400) -> str:
    line = " ".join(text.split()).rstrip(". ")
    return line if len(line) <= most else line[: most - 1] + "…"
