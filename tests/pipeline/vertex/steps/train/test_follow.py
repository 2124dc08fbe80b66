"""The Trainer's step and `cancel`, whatever happens around them, in whatever order."""

import grpc
import pytest
from google.cloud.aiplatform_v1.types import pipeline_state
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tests.pipeline.vertex.stand_in import Fault, StandIn
from tests.pipeline.vertex.steps.train.simulation import (
    APPLIED_LATE,
    LISTED_LATE,
    RUN_ENDED,
    Simulation,
)

Code = grpc.StatusCode
HOUR = 3600.0
SUCCEEDED = pipeline_state.PipelineState.PIPELINE_STATE_SUCCEEDED
CANCELLED = pipeline_state.PipelineState.PIPELINE_STATE_CANCELLED


# Of a service that has a bad moment, which may have done what it was asked for.
UNCLEAR = [
    *(Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED),
    *(Code.INTERNAL, Code.UNKNOWN, Code.ABORTED),
]


# More cancellations than these are not ignored; then one that repeats itself comes to an end.
MOST_IGNORED = 5


class Schedules(RuleBasedStateMachine):
    """Everything that may happen, in any order."""

    @initialize(
        seed=st.integers(0, 2**32),
        late=st.sampled_from([LISTED_LATE, 20 * LISTED_LATE]),
    )
    def start(self, seed, late):
        self.vertex = StandIn()
        self.vertex.__enter__()
        self.simulation = Simulation(self.vertex, seed, late)
        # Later than the project reckons with, a job may be missed; its folders are its own
        # all the same.
        self.in_time = late == LISTED_LATE
        self.ignored = 0
        self.cancel = None

    @rule(seconds=st.sampled_from([1.0, 5.0, 20.0, 60.0, 300.0, 3600.0]))
    def time_passes(self, seconds):
        self.simulation.advance(seconds)

    @rule(signal=st.sampled_from(["sigterm", "kill"]))
    def step_stops(self, signal):
        if self.simulation.step:
            getattr(self.simulation, signal)(self.simulation.step)

    @rule(only_paused=st.booleans())
    def machine_is_taken_away(self, only_paused):
        self.simulation.preempt(only_paused)

    @rule()
    def paused_machine_wakes_up(self):
        self.simulation.wake()

    @rule(
        code=st.sampled_from(UNCLEAR),
        applied=st.booleans(),
        late=st.sampled_from([0.0, 5.0, APPLIED_LATE]),
    )
    def answer_to_creation_is_lost(self, code, applied, late):
        fault = Fault(code, "lost", applied, late if applied else 0.0)
        self.vertex.fail("CreateCustomJob", fault)

    @rule(
        method=st.sampled_from(["CancelCustomJob", "CancelPipelineJob"]),
        count=st.integers(1, 3),
    )
    def cancellation_is_ignored(self, method, count):
        count = min(count, MOST_IGNORED - self.ignored)
        self.ignored += count
        self.vertex.ignored[method] += count

    @rule(
        method=st.sampled_from(
            ["GetCustomJob", "ListCustomJobs", "CancelCustomJob", "GetPipelineJob"]
        ),
        code=st.sampled_from([*UNCLEAR, Code.RESOURCE_EXHAUSTED]),
        count=st.integers(1, 5),
    )
    def service_is_out_of_reach(self, method, code, count):
        self.vertex.fail(method, Fault(code, "away"), count=count)

    @precondition(lambda self: self.cancel is None)
    @rule()
    def somebody_cancels(self):
        self.cancel = self.simulation.start_cancel()

    @invariant()
    def no_two_attempts_write_into_one_folder(self):
        shared = {f: w for f, w in self.simulation.writers.items() if len(w) > 1}
        assert not shared

    @invariant()
    def nothing_is_left_after_cancel_has_returned(self):
        if self.cancel is not None and self.cancel.ended:
            assert isinstance(self.cancel.outcome, list), self.cancel.outcome
            assert self.simulation.active == [] or not self.in_time
            assert self.simulation.run.state in RUN_ENDED

    @invariant()
    def a_step_that_has_succeeded_leaves_one_model_and_no_job(self):
        if self.simulation.done is not None:
            assert self.simulation.active == [] or not self.in_time
            assert self.simulation.done.outputs["model"] in self.simulation.writers

    def teardown(self):
        if not hasattr(self, "simulation"):
            return
        try:
            if self.cancel is None:
                self.cancel = self.simulation.start_cancel()
            for _ in range(40):  # minutes: less than a training takes by itself
                self.simulation.advance(60.0)
                if self.cancel.ended:
                    break
            assert self.cancel.ended, "cancel goes on for ever"
            # What was asked for before, and was not seen, would turn up now.
            for _ in range(5):
                self.nothing_is_left_after_cancel_has_returned()
                self.no_two_attempts_write_into_one_folder()
                self.simulation.advance(LISTED_LATE + APPLIED_LATE)
            self.nothing_is_left_after_cancel_has_returned()
        finally:
            for process in self.simulation.processes:
                self.simulation.kill(process)
            self.vertex.__exit__()


@pytest.mark.parametrize("code", [*UNCLEAR, Code.RESOURCE_EXHAUSTED])
@pytest.mark.parametrize("method", ["GetCustomJob", "ListCustomJobs"])
def test_a_bad_moment_of_the_service_ends_no_training(method, code):
    with StandIn() as vertex:
        simulation = Simulation(vertex, 7, LISTED_LATE)
        simulation.advance(600.0)
        vertex.fail(method, Fault(code, "away"), count=5)
        simulation.advance(600.0)
        (job,) = vertex.custom_jobs.values()
        assert not vertex.requests("CancelCustomJob")
        assert simulation.tries == 1  # of the step
        assert [job.name] == simulation.active
        for process in simulation.processes:
            simulation.kill(process)


TestSchedules = Schedules.TestCase
TestSchedules.settings = settings(max_examples=200, stateful_step_count=20)
TestSchedules.pytestmark = [pytest.mark.timeout(300)]
