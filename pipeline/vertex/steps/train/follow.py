"""Starts a training job and follows it; whatever happens to the step, it is not orphaned.

A step may get SIGTERM (the run was cancelled, its machine goes), may die at once, may be
tried again; the answer to a creation may be lost. What holds: a step that is tried again
goes on with the job that runs, if it does the same; no two jobs write into one folder,
because each has its own; a step that ends has seen all its jobs end, or has asked for
their end. What a step leaves that was killed at once, `cancel` finds by the labels
(pipeline/vertex/remote.py).
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.vertex.client import RequestFailed, Say
from pipeline.vertex.place import VertexError
from pipeline.vertex.remote import (
    LISTED_LATE_SECONDS,
    POLL_SECONDS,
    UNREACHABLE_SECONDS,
    Clock,
    Job,
    Stopper,
    TrainingJobs,
    is_passing,
    is_unclear,
)
from pipeline.vertex.steps.train.attempts import Attempt, Record

ATTEMPT = "attempt"  # label: which attempt's job it is

# So long a step that was told to end looks after its jobs; then it is killed anyway.
STOPPING_SECONDS = 20.0
_STOPPING_POLL_SECONDS = 2.0
_CREATIONS = 3  # whose answers may be lost


class Stopped(Exception):
    """The step was told to end."""


class Follower:
    """One step's job, from its creation to its end."""

    def __init__(
        self,
        jobs: TrainingJobs,
        labels: Mapping[str, str],
        record: Record,
        clock: Clock,
        stopped: Callable[[float], bool],
        say: Say,
    ) -> None:
        """Asks for nothing yet.

        Args:
            jobs: The service.
            labels: That all jobs of this step have, and no others: remote.of_node.
            record: Where attempts are written down.
            clock: Time.
            stopped: Waits for so many seconds, or until the step is told to end; whether it
                was. As threading.Event's `wait`.
            say: Takes a line for the log.
        """
        self._jobs = jobs
        self._labels = labels
        self._record = record
        self._clock = clock
        self._stopped = stopped
        self._say = say
        self._stopper = Stopper(clock, say)
        self._attempts = record.read()

    def follow(
        self,
        work: str,
        outputs: Mapping[str, str],
        describe: Callable[[Attempt], Mapping[str, Any]],
    ) -> Attempt:
        """Has the work done by one job.

        Args:
            work: Digest of what is to be done.
            outputs: Key of an output -> the step's folder, below which an attempt has one.
            describe: The CustomJob of an attempt, without labels.

        Returns:
            The attempt that has done it; its outputs are the step's.

        Raises:
            Stopped: The step was told to end; its jobs were cancelled.
            VertexError: The job failed or was cancelled, or the service refuses.
        """
        try:
            current = self._running(work) or self._create(work, outputs, describe)
            self._follow(current)
            self._end_others(current)
        except BaseException:
            self._abandon()
            raise
        return current

    # ---- finding --------------------------------------------------------------------

    def _jobs_of_step(self) -> dict[str, Job]:
        """Those that were written down and those that are listed, as they are now."""
        listed = {job.name: job for job in self._jobs.labelled(self._labels)}
        by_token = {job.labels.get(ATTEMPT): name for name, job in listed.items()}
        attempts = [
            dataclasses.replace(attempt, job=attempt.job or by_token.get(attempt.token))
            for attempt in self._attempts
        ]
        if attempts != self._attempts:
            self._write(attempts)
        names = {attempt.job for attempt in attempts if attempt.job} | listed.keys()
        return {name: self._stopper.look(self._jobs, name) for name in names}

    def _running(self, work: str) -> Attempt | None:
        """An earlier attempt whose job does the same and has not failed.

        Whatever else is there is stopped first: a job that does something else, and of
        several that do the same all but one.
        """
        chosen: Attempt | None = None
        waiting = True
        while waiting:
            found = self._patiently(self._jobs_of_step)
            usable = [
                attempt
                for attempt in self._attempts
                if attempt.job
                and attempt.work == work
                and found[attempt.job].state in ("active", "succeeded")
            ]
            # The one that is done, else the oldest: it is the furthest.
            usable.sort(key=lambda a: found[a.job or ""].state != "succeeded")
            if chosen not in usable:
                chosen = usable[0] if usable else None
            waiting = not self._stop({*found} - {chosen.job if chosen else None})
            # One whose answer was lost a moment ago may still turn up.
            waiting = waiting or (chosen is None and self._some_may_turn_up())
            if waiting:
                self._wait()
        if chosen:
            self._say(f"going on with training job {chosen.job} of an earlier attempt")
        return chosen

    def _some_may_turn_up(self) -> bool:
        now = self._clock.now()
        return any(
            attempt.job is None and now - attempt.since < LISTED_LATE_SECONDS
            for attempt in self._attempts
        )

    # ---- starting -------------------------------------------------------------------

    def _create(
        self,
        work: str,
        outputs: Mapping[str, str],
        describe: Callable[[Attempt], Mapping[str, Any]],
    ) -> Attempt:
        for left in reversed(range(_CREATIONS)):
            token = secrets.token_hex(8)
            attempt = Attempt(
                token=token,
                work=work,
                since=self._clock.now(),
                outputs={key: f"{uri}/{token}" for key, uri in outputs.items()},
            )
            self._write([*self._attempts, attempt])
            job = dict(describe(attempt))
            labels = {**job.get("labels", {}), **self._labels, ATTEMPT: token}
            try:
                name = self._jobs.create({**job, "labels": labels})
            except RequestFailed as error:
                if not is_unclear(error):
                    self._write(self._attempts[:-1])  # there is no such job
                    raise
                self._say(f"{error}; looking whether it was created")
                found = self._running(work)
                if found is not None:
                    return found
                if not left:
                    raise
                # Should it turn up later still, it has folders of its own, and is stopped.
                continue
            self._write(
                [
                    dataclasses.replace(each, job=name) if each == attempt else each
                    for each in self._attempts
                ]
            )
            self._say(f"training job {name} was created")
            return self._attempts[-1]
        raise AssertionError("unreachable")

    def _write(self, attempts: list[Attempt]) -> None:
        self._record.write(attempts)
        self._attempts = attempts

    # ---- following ------------------------------------------------------------------

    def _follow(self, current: Attempt) -> None:
        while True:
            found = self._patiently(self._jobs_of_step)
            job = found[current.job or ""]
            self._stop(found.keys() - {job.name})
            if job.state == "succeeded":
                self._say(f"training job {job.name} has succeeded")
                return
            if job.state != "active":
                why = f": {job.problem}" if job.problem else ""
                raise VertexError(
                    f"training job {job.name} has {_ENDS[job.state]}{why}"
                )
            self._wait()

    def _end_others(self, current: Attempt) -> None:
        """Returns when nothing else of this step runs, or can turn up."""
        while True:
            found = self._patiently(self._jobs_of_step)
            ended = self._stop(found.keys() - {current.job})
            if ended and not self._some_may_turn_up():
                return
            self._wait()

    def _stop(self, names: set[str | None]) -> bool:
        """Asks for the end of jobs; whether all have ended."""
        ended = [
            self._patiently(lambda name=name: self._stopper.stop(self._jobs, name))
            for name in sorted(filter(None, names))
        ]
        return all(ended)

    def _abandon(self) -> None:
        """Asks for the end of all jobs of this step, as long as it is let live."""
        until = self._clock.now() + STOPPING_SECONDS
        while True:
            try:
                found = self._jobs_of_step()
                ended = [self._stopper.stop(self._jobs, name) for name in found]
                if all(ended) and not self._some_may_turn_up():
                    return
            except RequestFailed as error:
                self._say(str(error))
            if self._clock.now() >= until:
                return
            self._clock.sleep(_STOPPING_POLL_SECONDS)

    def _wait(self) -> None:
        if self._stopped(POLL_SECONDS):
            raise Stopped

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """A job trains on while its service does not answer."""
        began = self._clock.now()
        while True:
            try:
                return ask()
            except RequestFailed as error:
                waited = self._clock.now() - began
                if not is_passing(error) or waited > UNREACHABLE_SECONDS:
                    raise
                self._say(str(error))
                self._wait()


_ENDS = {"failed": "failed", "cancelled": "been cancelled"}
