"""A run with one Trainer, in time that only passes when nobody has anything to do.

What is the project's own runs as it is: the step (`Follower`), `cancel` (`run_stopper` and
`stop_all`), and Google's client. Around it, as Google's documents have it: Pipelines
starts the step, tries it again, and on a cancellation sends it SIGTERM, later SIGKILL; the
job service starts the job's machine again after a preemption, six times at most, while the
one that was taken away may only have been paused; a cancellation is a best effort; the
answer to a creation may be lost. How late the service lists a job it does not say: here up
to 40 s, and what was asked for without an answer takes effect up to 30 s later.

Each process is a thread; only one runs at a time, and gives way at every request and
every wait.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.cloud.aiplatform_v1.services.job_service import JobServiceClient
from google.cloud.aiplatform_v1.services.pipeline_service import PipelineServiceClient
from google.cloud.aiplatform_v1.services.schedule_service import ScheduleServiceClient
from google.cloud.aiplatform_v1.types import job_state, pipeline_job, pipeline_state

from pipeline.vertex import remote
from pipeline.vertex.client import Caller, Service
from pipeline.vertex.commands import run_stopper
from pipeline.vertex.place import Place
from pipeline.vertex.steps.train.attempts import Attempt
from pipeline.vertex.steps.train.follow import Follower
from tests.pipeline.vertex.stand_in import PROJECT, REGION, StandIn
from trainer import attempts as training_attempts

RUN, NODE = "cifar-resnet-20310101000000-abc123", "BaselineTrainer"
LISTED_LATE, APPLIED_LATE = 40.0, 30.0  # at most
GRACE = 30.0  # seconds from SIGTERM to SIGKILL
TRIES = 3  # of the step: one, and two more
STEPS, STEP_SECONDS = 30, 120.0  # of the training, an hour
RESTARTS = 6  # of a job's machine

_Job, _Run = job_state.JobState, pipeline_state.PipelineState
ENDED = (_Job.JOB_STATE_SUCCEEDED, _Job.JOB_STATE_FAILED, _Job.JOB_STATE_CANCELLED)
RUN_ENDED = (
    _Run.PIPELINE_STATE_SUCCEEDED,
    _Run.PIPELINE_STATE_FAILED,
    _Run.PIPELINE_STATE_CANCELLED,
)


class Killed(BaseException):
    """The process is gone: whatever it does from now on, does not happen."""


@dataclass
class Process:
    """A thread that has its turn, or waits for it."""

    killed: bool = False
    told: bool = False  # to end: SIGTERM
    ended: bool = False
    waits: int = 0  # number of its present wait
    interruptible: bool = False
    outcome: Any = None
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


@dataclass
class Machine:
    """One start of a job's container: a process that trains."""

    job: str
    folder: str  # of its checkpoints
    step: int
    state: str = "running"  # or "paused", "gone"


class Simulation:
    """Everything; `advance` lets time pass."""

    def __init__(self, vertex: StandIn, seed: int, listed_late: float) -> None:
        """Creates the run, and starts its Trainer.

        Args:
            vertex: The services.
            seed: Of what takes time, and how long.
            listed_late: Seconds within which the service lists a new job.
        """
        self.vertex = vertex
        self.random = random.Random(seed)
        self.now = 1_900_000_000.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.main = threading.Semaphore(0)
        self.processes: list[Process] = []
        self.record: list[Attempt] = []
        self.writers: dict[str, set[str]] = {}  # folder -> who has written into it
        self.checkpoints: set[str] = set()  # index files
        self.machines: list[Machine] = []
        self.restarts: dict[str, int] = {}  # job -> machines that were replaced
        self.tries = 0
        self.step: Process | None = None
        self.done: Attempt | None = None  # that the step has taken for its own
        vertex.now = lambda: self.now
        vertex.run_custom_job = None
        lateness: dict[str, float] = {}
        vertex.listed_after = lambda job: lateness.setdefault(
            job.name, self.random.uniform(0, listed_late)
        )
        self.run = pipeline_job.PipelineJob(
            name=f"projects/{PROJECT}/locations/{REGION}/pipelineJobs/{RUN}",
            state=_Run.PIPELINE_STATE_RUNNING,
        )
        vertex.pipeline_jobs[RUN] = self.run
        self.place = Place(PROJECT, REGION, False, f"127.0.0.1:{vertex.port}")
        self.at(0.0, self.start_step)
        self.at(1.0, self.watch)

    # ---- time and processes ---------------------------------------------------------

    def at(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + seconds, next(self.order), do))

    def advance(self, seconds: float) -> None:
        """Lets time pass, and what is due happen."""
        until = self.now + seconds
        while self.events and self.events[0][0] <= until:
            self.now, _, do = heapq.heappop(self.events)
            do()
        self.now = until

    def spawn(self, work: Callable[[Process], Any]) -> Process:
        process = Process()

        def run() -> None:
            process.turn.acquire()
            try:
                process.outcome = work(process)
            except Killed:
                process.outcome = "killed"
            except Exception as error:
                process.outcome = error
            process.ended = True
            self.main.release()

        threading.Thread(target=run, daemon=True).start()
        self.processes.append(process)
        self.at(0.0, lambda: self.resume(process, 0))
        return process

    def resume(self, process: Process, wait: int) -> None:
        """Gives a process its turn, if it still waits for this."""
        if not process.ended and process.waits == wait:
            process.turn.release()
            self.main.acquire()

    def pause(self, process: Process, seconds: float, told: bool = False) -> None:
        """Called by a process: gives way, and goes on later; `told`: or on SIGTERM."""
        process.waits += 1
        wait, process.interruptible = process.waits, told
        if not (told and process.told):
            self.at(seconds, lambda: self.resume(process, wait))
        else:
            self.at(0.0, lambda: self.resume(process, wait))
        self.main.release()
        process.turn.acquire()
        if process.killed:
            raise Killed

    def sigterm(self, process: Process) -> None:
        """Tells a process to end; it is killed if it has not after a while."""
        if process.ended or process.told:
            return
        process.told = True
        if process.interruptible:
            wait = process.waits
            self.at(0.0, lambda: self.resume(process, wait))
        self.at(GRACE, lambda: self.kill(process))

    def kill(self, process: Process) -> None:
        process.killed = True
        self.resume(process, process.waits)

    # ---- what is the project's ------------------------------------------------------

    def caller(self, process: Process) -> Caller:
        simulation = self

        class Slow(Caller):
            def send(self, *arguments: Any, **options: Any) -> Any:
                simulation.pause(process, simulation.random.uniform(0.0, 2.0))
                try:
                    return super().send(*arguments, **options)
                finally:  # the answer takes its time, too
                    simulation.pause(process, simulation.random.uniform(0.0, 2.0))

        return Slow(self.place, lambda _: None, ())

    def clock(self, process: Process) -> Any:
        simulation = self

        class Clock:
            def now(self) -> float:
                return simulation.now

            def sleep(self, seconds: float) -> None:
                simulation.pause(process, seconds)

        return Clock()

    def training_jobs(self, process: Process) -> remote.TrainingJobs:
        client = self.vertex.client(JobServiceClient)
        return remote.TrainingJobs(client, self.place, self.caller(process))

    def start_step(self) -> None:
        """What Pipelines does: a new container for the step."""
        if self.run.state != _Run.PIPELINE_STATE_RUNNING:
            return
        self.tries += 1
        number = self.tries

        def work(process: Process) -> Attempt:
            def stopped(seconds: float) -> bool:
                self.pause(process, seconds, told=True)
                return process.told

            follower = Follower(
                self.training_jobs(process),
                remote.of_node(RUN, NODE),
                Bucket(self, process),
                self.clock(process),
                stopped,
                lambda _: None,
            )
            outputs = {"model": f"gs://b/{number}/model"}
            return follower.follow("the same work", outputs, self.describe)

        self.step = self.spawn(work)

    @staticmethod
    def describe(attempt: Attempt) -> dict[str, Any]:
        container = {"image_uri": "i", "args": [attempt.outputs["model"]]}
        pool = {
            "machine_spec": {"machine_type": "n2-standard-16"},
            "replica_count": 1,
            "container_spec": container,
        }
        return {"display_name": "training", "job_spec": {"worker_pool_specs": [pool]}}

    def start_cancel(self) -> Process:
        """A person types `cancel`."""

        def work(process: Process) -> list[str]:
            caller = self.caller(process)
            service = Service(
                self.vertex.client(PipelineServiceClient),
                self.vertex.client(ScheduleServiceClient),
                self.place,
                caller,
            )
            clock = self.clock(process)
            over = run_stopper(service, RUN, clock, lambda _: None)
            return remote.stop_all(
                [self.training_jobs(process)],
                remote.of_run(RUN),
                over,
                clock,
                lambda _: None,
            )

        return self.spawn(work)

    # ---- what is Google's -----------------------------------------------------------

    def watch(self) -> None:
        """Each second: the services' own work."""
        self.vertex.settle()
        self._watch_run()
        for job in list(self.vertex.custom_jobs.values()):
            self._watch_job(job)
        self.at(1.0, self.watch)

    def _watch_run(self) -> None:
        run, step = self.run, self.step
        cancelling = run.state == _Run.PIPELINE_STATE_CANCELLING
        if step is None:  # none yet, or none until it is tried again
            if cancelling:
                run.state = _Run.PIPELINE_STATE_CANCELLED
        elif run.state in RUN_ENDED:
            pass
        elif not step.ended:
            if cancelling and not step.told:
                delay = self.random.uniform(0.0, 20.0)
                self.at(delay, lambda: self.sigterm(step))
        elif cancelling:
            run.state = _Run.PIPELINE_STATE_CANCELLED
        elif isinstance(step.outcome, Attempt):
            run.state = _Run.PIPELINE_STATE_SUCCEEDED
            self.done = step.outcome
        elif self.tries < TRIES:
            self.step = None
            self.at(self.random.uniform(1.0, 60.0), self.start_step)
        else:
            run.state = _Run.PIPELINE_STATE_FAILED

    def _watch_job(self, job: Any) -> None:
        mine = [machine for machine in self.machines if machine.job == job.name]
        if job.state == _Job.JOB_STATE_CANCELLING and self.random.random() < 0.1:
            self.end(job, _Job.JOB_STATE_CANCELLED)
        # It takes time to start a machine.
        idle = job.state == _Job.JOB_STATE_RUNNING and not mine
        if idle and self.random.random() < 0.1:
            self.start_machine(job)
        for machine in mine:
            if machine.state == "running" and self.random.random() < 1 / STEP_SECONDS:
                self.train(job, machine)

    def start_machine(self, job: Any) -> None:
        newest = training_attempts.newest_first(self.checkpoints)
        folder = f"gs://b/checkpoints/t/{training_attempts.new()}"
        step = training_attempts.step_of(newest[0]) if newest else 0
        self.machines.append(Machine(job.name, folder, step))

    def train(self, job: Any, machine: Machine) -> None:
        """A step, and its checkpoint; after the last one, the model."""
        machine.step += 1
        identity = f"machine {self.machines.index(machine)}"
        self.writers.setdefault(machine.folder, set()).add(identity)
        self.checkpoints.add(f"{machine.folder}/ckpt-{machine.step}.index")
        active = job.state not in ENDED
        if machine.step >= STEPS and active:
            (pool,) = job.job_spec.worker_pool_specs
            (output,) = pool.container_spec.args
            self.writers.setdefault(output, set()).add(job.name)
            self.end(job, _Job.JOB_STATE_SUCCEEDED)

    def end(self, job: Any, state: Any) -> None:
        job.state = state
        job.end_time = self.vertex._moment()
        for machine in self.machines:
            if machine.job == job.name and machine.state != "paused":
                machine.state = "gone"

    def preempt(self, only_paused: bool) -> None:
        """A running job's machine is taken away; the job gets another one."""
        running = [machine for machine in self.machines if machine.state == "running"]
        if not running:
            return
        machine = self.random.choice(running)
        machine.state = "paused" if only_paused else "gone"
        (job,) = (
            job for job in self.vertex.custom_jobs.values() if job.name == machine.job
        )
        self.restarts[job.name] = self.restarts.get(job.name, 0) + 1
        if job.state in ENDED:
            return
        if self.restarts[job.name] > RESTARTS:
            self.end(job, _Job.JOB_STATE_FAILED)
        else:
            self.at(self.random.uniform(1.0, 30.0), lambda: self.restart(job))

    def restart(self, job: Any) -> None:
        if job.state == _Job.JOB_STATE_RUNNING:
            self.start_machine(job)

    def wake(self) -> None:
        """A machine that was only paused goes on as if nothing had been."""
        for machine in self.machines:
            if machine.state == "paused":
                (job,) = (
                    job
                    for job in self.vertex.custom_jobs.values()
                    if job.name == machine.job
                )
                self.train(job, machine)
                machine.state = "gone"
                return

    # ---- what must hold -------------------------------------------------------------

    @property
    def active(self) -> list[str]:
        """Jobs of the run that have not ended."""
        return [
            job.name
            for job in self.vertex.custom_jobs.values()
            if job.state not in ENDED
        ]


class Bucket:
    """A record that survives the step."""

    def __init__(self, simulation: Simulation, process: Process) -> None:
        self._simulation = simulation
        self._process = process

    def read(self) -> list[Attempt]:
        entries = json.loads(json.dumps([vars(a) for a in self._simulation.record]))
        return [Attempt(**entry) for entry in entries]

    def write(self, attempts: Sequence[Attempt]) -> None:
        self._simulation.pause(self._process, 0.1)
        self._simulation.record = list(attempts)
