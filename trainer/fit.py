"""The training loop: one network, one split, resumable at any step.

In: a Keras model, a split in memory, a recipe. Out: the trained model and its history.
Momentum SGD with L2 in the gradient (He et al. 2016a, section 4.2), not Keras's
decoupled `weight_decay`. Checkpoints hold weights, optimizer slots, step and history, so
a run that was killed goes on where it was when the same command is given again.
"""

# TensorFlow's own annotations are partial: what pyright makes of them is noise.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from contract import signals
from contract.config.train import TrainConfig
from contract.progress import PROGRESS_LOGGER
from trainer import attempts, recipe, workers
from trainer.average import Average
from trainer.input import TrainingData, evaluation_batches, training_batches
from trainer.strategy import StrategyError

# The console shows these records as a progress bar; elsewhere they are ordinary log lines.
_PROGRESS = logging.getLogger(PROGRESS_LOGGER)
_SECONDS_BETWEEN_REPORTS = 0.25
_CURVE_POINTS = 100  # of the training loss, over the whole run
_EVALUATION_BATCH = 500  # images; of large ones fewer, so that a batch has 25 MB
_EVALUATION_PIXELS = _EVALUATION_BATCH * 64 * 64
_CHECKPOINTS = 2  # kept per attempt: a damaged one falls back to the one before
# A loss of so many times that of guessing among all classes will not come back.
_DIVERGED = 1000.0


class WrongBackend(RuntimeError):
    """Keras was imported with another backend than TensorFlow."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a finished training is known by."""

    steps: int
    seconds: float  # in training steps, over all attempts of a resumed run
    images_per_second: float | None  # without the first step, which builds the graph
    replicas: int
    history: list[dict[str, float]]  # see contract.model_run; of what would be exported


class TrainingDiverged(RuntimeError):
    """The loss is no longer a number, or far beyond that of guessing."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step
        self.outcome: Outcome | None = None  # until then


def fit(
    model: keras.Model,
    data: TrainingData,
    config: TrainConfig,
    *,
    checkpoint_directory: str,
    summary_directory: str,
    title: str,
) -> Outcome:
    """Trains `model` in place, under the strategy in whose scope it was built.

    Args:
        model: float32 images [batch, height, width, channels] -> logits [batch, classes].
        data: Splits in memory and their normalisation.
        config: The recipe.
        checkpoint_directory: Own folder of this training; each attempt writes into one
            of its own below (trainer/attempts.py), and the newest checkpoint of any is
            resumed.
        summary_directory: TensorBoard scalars go here.
        title: What a person is shown beside the progress bar.

    Raises:
        TrainingDiverged: Loss or weights are no numbers any more; the last good
            checkpoint stays.
        SystemExit: SIGTERM or Ctrl-C came, here or to another worker; the state was saved.
    """
    steps = recipe.total_steps(config, len(data.train))
    per_epoch = recipe.steps_per_epoch(config, len(data.train))
    schedule = recipe.learning_rate(config, steps, per_epoch)
    strategy = tf.distribute.get_strategy()
    optimizer = _optimizer(model, config)
    average = Average(model, data, config, optimizer.iterations) if config.ema else None
    state = _State(model, optimizer, checkpoint_directory, average)
    execute = _execution(model, optimizer, config, average)
    evaluate = _evaluation(model, data)
    curve_every = max(1, steps // _CURVE_POINTS)
    evaluate_every = recipe.evaluate_every(config, per_epoch)
    batches = workers.distributed(
        lambda share: training_batches(
            data.train,
            data.normalise,
            config,
            first_step=state.step,
            steps=steps,
            share=share,
        )
    )
    iterator = iter(batches)
    writer = tf.summary.create_noop_writer()
    if workers.is_chief():
        writer = tf.summary.create_file_writer(summary_directory)
    whole = per_epoch * config.global_batch_size  # unless the last batch is a short one
    images = min(whole, len(data.train)) / per_epoch
    meter = _Meter(images, state.step, steps, title)
    profiled = config.profile_steps if workers.is_chief() else 0
    profile = _Profile(summary_directory, state.step, profiled)

    def outcome() -> Outcome:
        return Outcome(
            steps=state.step,
            seconds=state.seconds,
            images_per_second=meter.images_per_second,
            replicas=strategy.num_replicas_in_sync,
            history=state.history,
        )

    def diverged(problem: TrainingDiverged) -> TrainingDiverged:
        problem.outcome = dataclasses.replace(outcome(), steps=problem.step)
        return problem

    with _termination_requests() as requested, writer.as_default(), profile:
        while state.step < steps:
            # Executions end where something is to be written.
            step = state.step
            stops = [every - step % every for every in (curve_every, evaluate_every)]
            count = min(config.steps_per_execution, steps - step, *stops)
            factor = 0.1 ** recipe.drops(config, state.history)
            rates = [factor * schedule(step + i) for i in range(count)]
            began = time.perf_counter()
            totals = execute(iterator, tf.constant(rates))
            loss, accuracy, gradient_norm = (totals / count).numpy().tolist()
            if not loss < _DIVERGED * math.log(model.output_shape[-1]):
                raise diverged(
                    TrainingDiverged(
                        f"{title}: the loss is {loss:g} at step {step + count} of {steps} "
                        f"(train.learning_rate={config.learning_rate:g}); lower "
                        "train.learning_rate and run again",
                        step + count,
                    )
                )
            seconds = time.perf_counter() - began  # waiting for the batch included
            state.advance(count, seconds)
            meter.update(count, (loss, accuracy, gradient_norm), seconds)
            profile.step(state.step)
            done = state.step
            where = {"step": done, "epoch": done / per_epoch}
            if done % curve_every == 0 or done == steps:
                point = where | meter.means() | {"learning_rate": rates[-1]}
                state.history.append(point)
                _write_scalars(point, meter.images_per_second)
            if done % evaluate_every == 0 or done == steps:
                with average.exchanged() if average else contextlib.nullcontext():
                    point = where | evaluate()
                state.history.append(point)
                _write_scalars(point)
            # All workers save or stop, or none: one alone would leave the others waiting.
            old = state.is_older_than(config.checkpoint_seconds)
            stop, save = workers.any_of(bool(requested), old)
            if stop or save:
                try:
                    state.save()
                except TrainingDiverged as problem:
                    raise diverged(problem) from None
            if stop:
                workers.meet()  # the chief has written it
                if not requested:  # another worker is
                    raise SystemExit(workers.BEGIN_AGAIN)
                raise SystemExit(128 + requested[0])
        meter.finish()
    if average:
        average.exchange()
    return outcome()


def _optimizer(model: keras.Model, config: TrainConfig) -> Any:
    backend = keras.config.backend()
    if backend != "tensorflow":
        raise WrongBackend(
            f"Keras runs on {backend} here, and the training on tensorflow; set the "
            "environment variable KERAS_BACKEND=tensorflow"
        )
    # A person's keras.json may say otherwise, and the learning rate takes this type. The
    # networks name every type and the order of every axis themselves.
    keras.config.set_floatx("float32")
    optimizer: Any = keras.optimizers.SGD(
        learning_rate=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.nesterov,
    )
    if config.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer


def _execution(
    model: keras.Model,
    optimizer: Any,
    config: TrainConfig,
    average: Average | None = None,
) -> Any:
    """Compiles (iterator, learning rates [n]) -> sums over n steps.

    The result is float32 [3]: loss, accuracy and norm of the gradient without decay, each
    a mean over the images of a step.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    replica_step = _replica_step(model, optimizer, config, replicas)

    def step(iterator: Any, rate: tf.Tensor) -> tf.Tensor:
        batch = next(iterator)
        # Of one replica, too: a strategy's variables are the replica's there alone.
        results = strategy.run(replica_step, args=(*batch, rate))
        result = strategy.reduce(tf.distribute.ReduceOp.MEAN, results, axis=None)
        if average:
            average.update()
        return result

    if config.steps_per_execution == 1:
        return tf.function(
            lambda iterator, rates: step(iterator, rates[0]),
            reduce_retracing=True,
            autograph=False,
        )

    # AutoGraph is for the loop alone; what needs none costs it seconds to read.
    unconverted = tf.autograph.experimental.do_not_convert(step)

    @tf.function(reduce_retracing=True)
    def execute(iterator: Any, rates: tf.Tensor) -> tf.Tensor:
        totals = tf.zeros([3])
        for i in tf.range(tf.shape(rates)[0]):
            totals += unconverted(iterator, rates[i])
        return totals

    return execute


def _replica_step(
    model: keras.Model, optimizer: Any, config: TrainConfig, replicas: int
) -> Any:
    """What one replica does in one step; a TPU has it compiled as a whole, by XLA.

    Returns:
        (images, labels, learning rate []) -> float32 [3], as `_execution` sums it up.
    """
    variables = model.trainable_variables
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    count: Any = replicas

    def replica_step(
        images: tf.Tensor, labels: tf.Tensor, rate: tf.Tensor
    ) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_mean(_losses(labels, logits, config.label_smoothing))
            # Gradients are summed over replicas.
            objective = loss / count
            if scaled:
                objective = optimizer.scale_loss(objective)
        gradients = tape.gradient(objective, variables)
        scale = optimizer.scale_loss(tf.constant(1.0)) if scaled else 1.0
        norm = tf.linalg.global_norm(gradients) * (count / scale)
        # Coupled L2, before momentum, on every trainable tensor (Keras's weight_decay
        # is decoupled).
        decay = config.weight_decay * scale / count
        decayed = [
            gradient + decay * variable
            for gradient, variable in zip(gradients, variables, strict=True)
        ]
        # A mixed-precision optimizer has its learning rate inside.
        inner = optimizer.inner_optimizer if scaled else optimizer
        inner.learning_rate.assign(rate)
        optimizer.apply(decayed, variables)
        hits = tf.equal(tf.argmax(logits, axis=1), labels)
        accuracy = tf.reduce_mean(tf.cast(hits, tf.float32))
        return tf.stack([tf.cast(x, tf.float32) for x in (loss, accuracy, norm)])

    return replica_step


def _losses(labels: tf.Tensor, logits: tf.Tensor, smoothing: float) -> tf.Tensor:
    """Cross-entropy per image, [batch], of the logits' type."""
    if not smoothing:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    classes: Any = logits.shape[-1]
    hot = tf.one_hot(labels, classes, dtype=logits.dtype)
    targets = (1 - smoothing) * hot + smoothing / classes
    return tf.nn.softmax_cross_entropy_with_logits(targets, logits)


def _evaluation(
    model: keras.Model, data: TrainingData
) -> Callable[[], dict[str, float]]:
    """Prepares a look at the eval split: mean cross-entropy and accuracy, in inference mode.

    The strategy's replicas share it. All batches have one shape, which a TPU's program needs.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    count = len(data.evaluation)
    _, height, width, _ = model.input_shape
    most = min(_EVALUATION_BATCH, max(1, _EVALUATION_PIXELS // (height * width)))
    whole = math.ceil(count / most)  # batches
    batches = workers.distributed(
        lambda share: evaluation_batches(
            data.evaluation,
            data.normalise,
            batch_size=replicas * math.ceil(count / (whole * replicas)),
            share=share,
        )
    )
    replica_sums = _replica_sums(model)

    @tf.function(reduce_retracing=True, autograph=False)
    def sums(*batch: tf.Tensor) -> tf.Tensor:
        found = strategy.run(replica_sums, args=batch)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, found, axis=None)

    def evaluate() -> dict[str, float]:
        totals = sum(sums(*batch).numpy().astype(float) for batch in batches)
        loss, correct = (totals / count).tolist()
        return {"eval_loss": loss, "eval_accuracy": correct}

    return evaluate


def _replica_sums(model: keras.Model) -> Any:
    """What one replica does with its share of an eval batch; compiled by XLA on a TPU.

    Returns:
        (images, labels, counted float32 [batch]) -> float32 [2]: sum of the losses, and
        number of hits, of those that count.
    """

    def replica_sums(
        images: tf.Tensor, labels: tf.Tensor, counted: tf.Tensor
    ) -> tf.Tensor:
        logits = tf.cast(model(images, training=False), tf.float32)
        hits = tf.cast(tf.equal(tf.argmax(logits, axis=1), labels), tf.float32)
        losses = _losses(labels, logits, 0.0)
        return tf.stack(
            [tf.reduce_sum(losses * counted), tf.reduce_sum(hits * counted)]
        )

    return replica_sums


def _write_scalars(
    point: dict[str, float], images_per_second: float | None = None
) -> None:
    step = int(point["step"])
    for name, value in point.items():
        if name not in ("step", "epoch"):
            tf.summary.scalar(name, value, step=step)
    if images_per_second is not None:
        tf.summary.scalar("images_per_second", images_per_second, step=step)


class _State(tf.train.experimental.PythonState):
    """What a checkpoint holds, restored from the newest one that is whole.

    Step, seconds and history are no variables: a strategy of several workers sends the first
    value of each variable from one to the others, and cannot send text.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: Any,
        directory: str,
        average: Average | None = None,
    ) -> None:
        self.step = 0
        self.seconds = 0.0
        self.history: list[dict[str, float]] = []
        self._variables = [
            *(variable.value for variable in model.variables),
            *(variable.value for variable in optimizer.variables),
            *(average.variables if average else ()),
        ]
        # Variable by variable: a Checkpoint of a Keras model leaves out what is not
        # trained, and the moving statistics would start anew.
        self._checkpoint = tf.train.Checkpoint(variables=self._variables, state=self)
        # A variable that is made when it is first asked for, which all workers must do.
        _ = self._checkpoint.save_counter
        self._directory = directory
        self._manager = tf.train.CheckpointManager(
            self._checkpoint,
            f"{directory}/{attempts.new()}",
            max_to_keep=_CHECKPOINTS,
        )
        self._earlier: set[str] = set()  # folders of attempts that were here before
        self._writes = workers.is_chief()
        self._restore()
        if not workers.agree(self.step):
            raise StrategyError(
                f"{directory}: this worker finds step {self.step} there, and another one "
                "another step; give all workers the same folder"
            )
        self._saved = time.monotonic()

    def serialize(self) -> str:
        """What a checkpoint holds besides variables; TensorFlow asks for it."""
        return json.dumps([self.step, self.seconds, self.history])

    def deserialize(self, string_value: bytes) -> None:
        """The opposite."""
        self.step, self.seconds, self.history = json.loads(string_value)

    def advance(self, steps: int, seconds: float) -> None:
        self.step += steps
        self.seconds += seconds

    def save(self) -> None:
        """Writes a checkpoint, of several workers the first one.

        Raises:
            TrainingDiverged: A weight is not finite; the checkpoints stay as they are.
        """
        # A finite loss can have made weights that are not: the loss is that of before.
        for variable in self._variables:
            if variable.dtype.is_floating and not bool(
                tf.reduce_all(tf.math.is_finite(variable))
            ):
                name = variable.name.removesuffix(":0")
                raise TrainingDiverged(
                    f"{name} is not finite after step {self.step}; lower "
                    "train.learning_rate and run again",
                    self.step,
                )
        self._saved = time.monotonic()
        if not self._writes:
            return
        self._manager.save(checkpoint_number=self.step)
        if len(self._manager.checkpoints) == _CHECKPOINTS:
            self._forget_earlier()

    def _forget_earlier(self) -> None:
        """Removes what earlier attempts left, once this one could replace all of it."""
        for folder in self._earlier:
            with contextlib.suppress(tf.errors.OpError):  # one that is gone is no loss
                tf.io.gfile.rmtree(folder)
        self._earlier.clear()

    def is_older_than(self, seconds: float) -> bool:
        """Of the newest checkpoint."""
        return time.monotonic() - self._saved >= seconds

    def _restore(self) -> None:
        # The managers' own lists may be damaged as well: the files count.
        found = tf.io.gfile.glob(f"{self._directory}/{attempts.PATTERN}")
        if not found:
            return
        start = [variable.numpy() for variable in self._variables]
        checkpoints = attempts.newest_first(found)
        self._earlier.update(map(attempts.folder_of, checkpoints))
        for path in checkpoints:
            try:
                self._checkpoint.restore(path).assert_consumed()
            except Exception as error:  # noqa: BLE001 - damage has many types
                message = str(error).splitlines()[0]
                _PROGRESS.info(
                    "%s is damaged (%s); taking the one before", path, message
                )
                for variable, value in zip(self._variables, start, strict=True):
                    variable.assign(value)
                continue
            _PROGRESS.info("resuming at step %d from %s", attempts.step_of(path), path)
            return
        self.step, self.seconds, self.history = 0, 0.0, []


class _Profile:
    """TensorBoard's profiler over a few steps, after the graph has been built.

    A process has one profiler: it must not go on after this training, however that ends.
    """

    _SKIPPED = 3

    def __init__(self, directory: str, first_step: int, steps: int) -> None:
        self._directory = directory
        self._start = first_step + self._SKIPPED
        self._stop = self._start + steps
        self._running = False
        self._wanted = steps > 0

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._end()

    def step(self, done: int) -> None:
        """Starts or stops recording after `done` steps."""
        if self._wanted and done >= self._start:
            tf.profiler.experimental.start(self._directory)
            self._running, self._wanted = True, False
        elif done >= self._stop:
            self._end()

    def _end(self) -> None:
        if self._running:
            self._running = False
            tf.profiler.experimental.stop()


class _Meter:
    """Means since the last point of the curve, and progress for a person."""

    def __init__(self, images: float, first_step: int, steps: int, title: str) -> None:
        self._images = images  # per step, a mean over a pass
        self._first_step = self._step = first_step
        self._first_steps = 0  # of the first execution
        self._steps = steps
        self._title = title
        self._seconds = 0.0
        self._reported = time.monotonic()
        self._values: list[tuple[int, tuple[float, float, float]]] = []
        self._newest = (math.nan, math.nan)  # loss and accuracy of the newest steps

    @property
    def images_per_second(self) -> float | None:
        """Without the first execution, which builds the graph; None until the second."""
        done = self._step - self._first_step - self._first_steps
        return done * self._images / self._seconds if done > 0 else None

    def update(
        self, steps: int, values: tuple[float, float, float], seconds: float
    ) -> None:
        """Takes the mean loss, accuracy and gradient norm of `steps` steps."""
        if self._step == self._first_step:
            self._first_steps = steps
        else:
            self._seconds += seconds
        self._step += steps
        self._values.append((steps, values))
        self._newest = values[:2]
        now = time.monotonic()
        if now - self._reported >= _SECONDS_BETWEEN_REPORTS:
            self._reported = now
            self._report()

    def means(self) -> dict[str, float]:
        """Means over the steps since the last call."""
        weights = [steps for steps, _ in self._values]
        columns = zip(*(values for _, values in self._values), strict=True)
        names = ("loss", "accuracy", "gradient_norm")
        means = {
            name: sum(w * v for w, v in zip(weights, column, strict=True))
            / sum(weights)
            for name, column in zip(names, columns, strict=True)
        }
        self._values = []
        return means

    def finish(self) -> None:
        if self._step > self._first_step:
            self._report()

    def _report(self) -> None:
        loss, accuracy = self._newest
        progress = {
            "task": self._title,
            "done": self._step,
            "total": self._steps,
            "unit": "steps",
            "loss": loss,
            "accuracy": accuracy,
            "images_per_second": self.images_per_second,
        }
        _PROGRESS.info(
            "%s: step %d of %d, loss %.4f, accuracy %.4f, %.0f images/s",
            self._title,
            self._step,
            self._steps,
            loss,
            accuracy,
            self.images_per_second or math.nan,
            extra={"progress": progress},
        )


@contextlib.contextmanager
def _termination_requests() -> Iterator[list[int]]:
    """Collects SIGTERM and Ctrl-C instead of dying of them, so that the state is saved.

    A second one does not wait for the end of the step.
    """
    received: list[int] = []

    def receive(number: int) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    with signals.handled(receive):
        yield received
