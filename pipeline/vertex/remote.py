"""Jobs that the steps of a run have started elsewhere: trainings, and Beam on Dataflow.

A step that is stopped takes nothing with it: its job trains on, at the accelerator's
price. So every such job carries the labels RUN and NODE; the step itself, and `cancel`,
find jobs by them and go on cancelling until each has ended. What the services promise is
little: a cancellation is "a best effort, but success is not guaranteed", and nothing says
how soon a new job is listed. Hence the repetitions, and the wait for latecomers.

Importing this takes seconds (Google's clients).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import grpc
from google.cloud import dataflow_v1beta3 as dataflow
from google.cloud.aiplatform_v1.services.job_service import JobServiceClient
from google.cloud.aiplatform_v1.types import custom_job, job_service

from pipeline.vertex.client import WAITS, Caller, RequestFailed, Say, google_client
from pipeline.vertex.names import label
from pipeline.vertex.place import Place

RUN, NODE = "run", "node"  # labels of every job

POLL_SECONDS = 15.0
# A cancellation that changed nothing is asked for again.
REPEAT_SECONDS = 60.0
# How late a new job may be listed. Google's documents name no time; within a region lists
# have been seen to follow within seconds.
LISTED_LATE_SECONDS = 90.0
# For so long a service may be out of reach before a command, or a step, gives up.
UNREACHABLE_SECONDS = 1800.0

_DATAFLOW = "dataflow.googleapis.com"
_PAGE = 100
_Code = grpc.StatusCode
# What a service answers that has a bad moment, besides saying nothing. A training of hours is
# asked about some thousand times.
_UNCLEAR = (
    *(_Code.UNAVAILABLE, _Code.DEADLINE_EXCEEDED),
    *(_Code.INTERNAL, _Code.UNKNOWN, _Code.ABORTED),
)
State = Literal["active", "succeeded", "failed", "cancelled"]
_TRAINING_STATES: Mapping[str, State] = {
    "JOB_STATE_SUCCEEDED": "succeeded",
    "JOB_STATE_FAILED": "failed",
    "JOB_STATE_PARTIALLY_SUCCEEDED": "failed",
    "JOB_STATE_EXPIRED": "failed",
    "JOB_STATE_CANCELLED": "cancelled",
}
_DATAFLOW_STATES: Mapping[str, State] = {
    "JOB_STATE_DONE": "succeeded",
    "JOB_STATE_UPDATED": "succeeded",
    "JOB_STATE_DRAINED": "succeeded",
    "JOB_STATE_FAILED": "failed",
    "JOB_STATE_CANCELLED": "cancelled",
}


def is_unclear(error: RequestFailed) -> bool:
    """Whether what was asked for may have been done all the same."""
    return error.code in _UNCLEAR


def is_passing(error: RequestFailed) -> bool:
    """Whether a look, or a cancellation, may succeed a little later."""
    # Requests per minute have a quota, too.
    return is_unclear(error) or error.code is _Code.RESOURCE_EXHAUSTED


@dataclass(frozen=True)
class Job:
    """A job as its service tells of it."""

    name: str
    state: State  # "active": it has not ended
    labels: Mapping[str, str]
    problem: str = ""


class Jobs(Protocol):
    """One service's jobs."""

    @property
    def kind(self) -> str:
        """What a job is called, in the singular."""
        ...

    def labelled(self, labels: Mapping[str, str]) -> list[Job]:
        """Jobs with all these labels; some may be missing for a while, or look older."""
        ...

    def read(self, name: str) -> Job:
        """A job as it is now."""
        ...

    def cancel(self, name: str) -> None:
        """Asks for the end of a job; it comes later, or not at all."""
        ...


def of_run(run_id: str) -> dict[str, str]:
    """The label of all jobs of a run."""
    return {RUN: label(run_id)}


def of_node(run_id: str, node: str) -> dict[str, str]:
    """The labels of all jobs of one step of a run."""
    return {**of_run(run_id), NODE: label(node)}


class TrainingJobs:
    """Vertex AI's CustomJobs."""

    kind = "training job"

    def __init__(self, client: JobServiceClient, place: Place, caller: Caller) -> None:
        """See `connect`."""
        self._client = client
        self._place = place
        self._send = caller.send
        self._pages = caller.pages

    def create(self, job: Mapping[str, Any]) -> str:
        """Starts a job, by one request; returns its name.

        Raises:
            RequestFailed: With `is_unclear`, nobody knows whether it was created.
        """
        request = job_service.CreateCustomJobRequest(
            parent=self._place.parent, custom_job=custom_job.CustomJob(dict(job))
        )
        doing = f"creating training job {job['display_name']}"
        answer = self._send(doing, self._client.create_custom_job, request, waits=())
        return answer.name

    def labelled(self, labels: Mapping[str, str]) -> list[Job]:
        """See Jobs."""
        request = job_service.ListCustomJobsRequest(
            parent=self._place.parent,
            filter=" AND ".join(f'labels.{k}="{v}"' for k, v in labels.items()),
            page_size=_PAGE,
        )
        pages = self._pages(
            "listing training jobs", self._client.list_custom_jobs, request
        )
        return [_training_job(job) for page in pages for job in page.custom_jobs]

    def read(self, name: str) -> Job:
        """See Jobs."""
        request = job_service.GetCustomJobRequest(name=name)
        doing = f"reading training job {name}"
        return _training_job(self._send(doing, self._client.get_custom_job, request))

    def cancel(self, name: str) -> None:
        """See Jobs."""
        request = job_service.CancelCustomJobRequest(name=name)
        unless_ended(
            lambda: self._send(
                f"cancelling training job {name}",
                self._client.cancel_custom_job,
                request,
            )
        )


def _training_job(job: Any) -> Job:
    return Job(
        name=job.name,
        state=_TRAINING_STATES.get(job.state.name, "active"),
        labels=dict(job.labels),
        problem=" ".join(job.error.message.split()) if job.error.message else "",
    )


def dataflow_name(labels: Mapping[str, str]) -> str:
    """Name of the Dataflow job of a step, which says what its labels say.

    Dataflow's list tells names and not always labels. And of one name there is at most one
    active job in a region: a step that is tried again cannot start a second one.
    """
    node, run = (labels[key].replace("_", "-") for key in (NODE, RUN))
    return f"{node}--{run}"


class DataflowJobs:
    """Dataflow's jobs, which Beam's own client has started under `dataflow_name`."""

    kind = "Dataflow job"

    def __init__(self, client: Any, place: Place, caller: Caller) -> None:
        """See `connect`."""
        self._client = client
        self._place = place
        self._send = caller.send
        self._pages = caller.pages

    def labelled(self, labels: Mapping[str, str]) -> list[Job]:
        """See Jobs; of those that have not ended."""
        request = dataflow.ListJobsRequest(
            project_id=self._place.project,
            location=self._place.region,
            filter=dataflow.ListJobsRequest.Filter.ACTIVE,
            page_size=_PAGE,
        )
        pages = self._pages("listing Dataflow jobs", self._client.list_jobs, request)
        # The service knows no filter by labels.
        found = [_dataflow_job(job) for page in pages for job in page.jobs]
        wanted = {k: v.replace("_", "-") for k, v in labels.items()}.items()
        return [job for job in found if wanted <= job.labels.items()]

    def read(self, name: str) -> Job:
        """See Jobs."""
        request = dataflow.GetJobRequest(
            project_id=self._place.project, location=self._place.region, job_id=name
        )
        doing = f"reading Dataflow job {name}"
        return _dataflow_job(self._send(doing, self._client.get_job, request))

    def cancel(self, name: str) -> None:
        """See Jobs."""
        wanted = dataflow.Job(requested_state=dataflow.JobState.JOB_STATE_CANCELLED)
        request = dataflow.UpdateJobRequest(
            project_id=self._place.project,
            location=self._place.region,
            job_id=name,
            job=wanted,
        )
        unless_ended(
            lambda: self._send(
                f"cancelling Dataflow job {name}", self._client.update_job, request
            )
        )


def _dataflow_job(job: Any) -> Job:
    node, _, run = job.name.partition("--")  # no node's name has a dash
    state = _DATAFLOW_STATES.get(job.current_state.name, "active")
    return Job(name=job.id, state=state, labels={NODE: node, RUN: run})


def unless_ended(cancel: Callable[[], Any]) -> None:
    """Cancels something; that it has just ended is no error, the next look says so."""
    try:
        cancel()
    except RequestFailed as error:
        if error.code is not _Code.FAILED_PRECONDITION:
            raise


@contextmanager
def connect(
    place: Place, say: Say, waits: Sequence[float] = WAITS
) -> Iterator[TrainingJobs]:
    """Opens the service of training jobs; nothing is sent yet.

    Raises:
        VertexError: There are no application default credentials.
    """
    client = google_client(JobServiceClient, place)
    with closing(client.transport):
        yield TrainingJobs(client, place, Caller(place, say, waits))


@contextmanager
def connect_dataflow(
    place: Place, say: Say, waits: Sequence[float] = WAITS
) -> Iterator[DataflowJobs]:
    """Opens Dataflow; nothing is sent yet.

    Raises:
        VertexError: There are no application default credentials.
    """
    client = google_client(dataflow.JobsV1Beta3Client, place, _DATAFLOW)
    with closing(client.transport):
        yield DataflowJobs(client, place, Caller(place, say, waits))


# ---- until each has ended ------------------------------------------------------------


class Clock(Protocol):
    """Time, and waiting."""

    def now(self) -> float:
        """Seconds since 1970."""
        ...

    def sleep(self, seconds: float) -> None:
        """Waits."""
        ...


class WallClock:
    """The machine's."""

    def now(self) -> float:
        """Seconds since 1970: an attempt reads what an earlier one has written down."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)


@dataclass
class Stopper:
    """Cancels jobs, again and again, and knows which have ended."""

    clock: Clock
    say: Say
    _asked: dict[str, float] = field(default_factory=dict)  # name -> when
    _ended: dict[str, Job] = field(default_factory=dict)

    def look(self, jobs: Jobs, name: str) -> Job:
        """A job as it is now; one that has ended is not asked for again."""
        if name not in self._ended:
            job = jobs.read(name)
            if job.state == "active":
                return job
            self._ended[name] = job
        return self._ended[name]

    def stop(self, jobs: Jobs, name: str) -> bool:
        """Asks for a job's end, unless it was asked a moment ago.

        Returns:
            Whether the job has ended.
        """
        if self.look(jobs, name).state != "active":
            return True
        before = self._asked.get(name)
        now = self.clock.now()
        if before is None or now - before >= REPEAT_SECONDS:
            self._asked[name] = now
            if before is not None:
                self.say(f"{jobs.kind} {name} goes on; it is cancelled again")
            jobs.cancel(name)
        return False


def stop_all(
    services: Sequence[Jobs],
    labels: Mapping[str, str],
    over: Callable[[], bool],
    clock: Clock,
    say: Say,
    quiet_seconds: float | None = None,
) -> list[str]:
    """Cancels all jobs with some labels until each has ended and no other turns up.

    Args:
        services: Where to look.
        labels: What the jobs have in common, see `of_run`.
        over: Whether nothing can start such a job any more. Until then it goes on.
        clock: Time.
        say: Shows a line to the person who waits.
        quiet_seconds: How long to look for another one after the last has ended; None:
            as long as one may be listed late.

    Returns:
        Names of the jobs that were found; all have ended.

    Raises:
        RequestFailed: A service refuses, or could not be reached for half an hour.
    """
    quiet = LISTED_LATE_SECONDS if quiet_seconds is None else quiet_seconds
    stopper = Stopper(clock, say)
    known: dict[str, Jobs] = {}
    quiet_since: float | None = None
    reached = clock.now()
    while True:
        try:
            closed = over()  # before the look at the lists, not after
            listed = {
                job.name: jobs for jobs in services for job in jobs.labelled(labels)
            }
            new = listed.keys() - known.keys()
            known |= listed
            for name in sorted(new):
                say(f"{known[name].kind} {name} is being cancelled")
            ended = [stopper.stop(jobs, name) for name, jobs in known.items()]
            reached = now = clock.now()
            if closed and not new and all(ended):
                quiet_since = now if quiet_since is None else quiet_since
                if now - quiet_since >= quiet:
                    return list(known)
            else:
                quiet_since = None
        except RequestFailed as error:
            if not is_passing(error) or clock.now() - reached > UNREACHABLE_SECONDS:
                raise
            quiet_since = None
        clock.sleep(POLL_SECONDS)
