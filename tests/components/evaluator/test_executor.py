"""Models that answer from a table through Answers, Evaluator, chooser and pusher."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import verdict
from contract.datasets import known

pytestmark = pytest.mark.tf

EXAMPLES = 400


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> verdict.World:
    return verdict.World(tmp_path_factory.mktemp("world"), EXAMPLES)


@pytest.fixture(scope="module")
def wrong() -> dict[str, np.ndarray]:
    """Which images each model gets wrong, some in common."""
    rng = np.random.default_rng(5)
    found = {}
    counts = {"baseline": 80, "candidate": 40, "wide": 50, "in_service": 60}
    for role, count in counts.items():
        found[role] = np.zeros(EXAMPLES, bool)
        found[role][rng.permutation(EXAMPLES)[:count]] = True
    return found


@pytest.fixture(scope="module")
def models(world, wrong) -> dict[str, Path]:
    return {role: world.write_table(role, flags) for role, flags in wrong.items()}


@pytest.fixture(scope="module")
def served(models) -> dict[str, Path]:
    """As a PushedModel keeps it: the SavedModel at the artifact's own address."""
    return models | {"in_service": models["in_service"] / "Format-Serving"}


@pytest.fixture(scope="module")
def evaluated(world, served, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    return folder, world.evaluate(served, folder)


def test_all_models_are_counted_on_the_same_images(evaluated, wrong):
    _, comparison = evaluated
    for role, flags in wrong.items():
        assert comparison["models"][role]["errors"] == flags.sum()
        assert comparison["models"][role]["problem"] is None
        assert comparison["models"][role]["network"] == role
    assert len(comparison["pairs"]) == 2 + 3
    for key, pair in comparison["pairs"].items():
        first, second = key.split("_minus_")
        assert pair["only_first_wrong"] == (wrong[first] & ~wrong[second]).sum()
        assert ("holm_p_value" in pair) == (second == "baseline")
    pair = comparison["pairs"]["candidate_minus_in_service"]
    bands = [name for name in pair["slices"] if name.startswith("brightness=")]
    assert len(bands) >= 2


def test_tfma_opens_its_own_result(evaluated, wrong, world):
    import tensorflow_model_analysis as tfma

    folder, comparison = evaluated
    for role, flags in wrong.items():
        result = tfma.load_eval_result(str(folder), model_name=role)
        found = {key: metrics[""][""] for key, metrics in result.slicing_metrics}
        assert found[()]["error"]["doubleValue"] == pytest.approx(flags.mean())
        assert found[()]["example_count"]["doubleValue"] == EXAMPLES
        for index in range(verdict.CLASSES):
            expected = flags[world.labels == index].mean()
            metrics = found[(("label", index),)]
            assert metrics["error"]["doubleValue"] == pytest.approx(expected)
        assert found[()]["cross_entropy"]["doubleValue"] == pytest.approx(
            comparison["models"][role]["cross_entropy"]
        )
    gain = wrong["candidate"].mean() - wrong["baseline"].mean()
    result = tfma.load_eval_result(str(folder), model_name="candidate")
    overall = dict(result.slicing_metrics)[()][""][""]
    assert overall["error_diff"]["doubleValue"] == pytest.approx(gain)


def test_the_test_split_is_evaluated_by_itself(evaluated, wrong, world):
    """Of it every table is right."""
    import tensorflow_model_analysis as tfma

    folder = evaluated[0] / "test"
    comparison = json.loads((folder / "comparison.json").read_text())
    assert (comparison["split"], comparison["examples"]) == ("test", 10)
    assert {model["errors"] for model in comparison["models"].values()} == {0}
    found = np.load(folder / "predictions.npz", allow_pickle=False)
    np.testing.assert_array_equal(found["labels"], world.all_labels[EXAMPLES:])
    result = tfma.load_eval_result(str(folder), model_name="wide")
    overall = dict(result.slicing_metrics)[()][""][""]
    assert overall["error"]["doubleValue"] == 0


def test_answers_say_whose_they_are(evaluated):
    place = evaluated[0] / "answers"
    for name in ("baseline", "wide", "in_service"):
        told = json.loads((place / name / "answers.json").read_text())
        assert (told["contender"], told["network"], told["there"]) == (name, name, True)
        assert told["problems"] == {}
        assert told["class_names"] == verdict.CLASS_NAMES
        assert told["images_per_second"] > 0 and told["load_seconds"] > 0


def test_nothing_in_service_is_nobody_in_the_comparison(
    world, models, tmp_path, evaluated
):
    from tfx.types import standard_artifacts

    nobody = world.answer("in_service", None, tmp_path / "nobody")
    assert [path.name for path in (tmp_path / "nobody").iterdir()] == ["answers.json"]
    others = [
        verdict._artifact(standard_artifacts.Model, evaluated[0] / "answers" / name)
        for name in ("wide", "baseline")
    ]
    comparison = world.compare([nobody, *others], tmp_path)
    # By name, whatever the order of the inputs.
    assert comparison["models"]["in_service"] is None
    assert list(comparison["pairs"]) == [
        "candidate_minus_baseline",
        "wide_minus_baseline",
        "candidate_minus_in_service",
        "wide_minus_in_service",
        "baseline_minus_in_service",
    ]
    assert comparison["models"]["wide"]["errors"] == 50
    assert comparison["models"]["baseline"]["errors"] == 80
    assert "holm_p_value" not in comparison["pairs"]["wide_minus_baseline"]


@pytest.mark.parametrize("spoilt", ["ids", "labels", "contender", "classes", "cut"])
def test_answers_that_cannot_be_compared_are_refused(
    world, evaluated, tmp_path, spoilt
):
    import shutil

    from tfx.types import standard_artifacts

    from contract.typed_json import RecordError

    for name in ("baseline", "candidate"):
        shutil.copytree(evaluated[0] / "answers" / name, tmp_path / name)
    file = tmp_path / "candidate/eval.npz"
    told = json.loads((tmp_path / "candidate/answers.json").read_text())
    if spoilt in ("ids", "labels"):
        found = dict(np.load(file, allow_pickle=False))
        found[spoilt] = np.roll(found[spoilt], 1)
        np.savez(file, **found)
        words, kind = "are answers to different images", ValueError
    elif spoilt == "contender":
        told["contender"] = "baseline"
        words, kind = "are both answers of baseline", ValueError
    elif spoilt == "classes":
        told["class_names"][0] = "another"
        words, kind = "are answers about different classes", ValueError
    else:
        file.write_bytes(file.read_bytes()[:1000])
        words, kind = "the file is damaged or was edited", RecordError
    (tmp_path / "candidate/answers.json").write_text(json.dumps(told))
    given = [
        verdict._artifact(standard_artifacts.Model, tmp_path / name)
        for name in ("baseline", "candidate")
    ]
    with pytest.raises(kind, match=words):
        world.compare(given, tmp_path / "out")


def test_a_model_of_another_contender_is_refused(world, models, tmp_path):
    with pytest.raises(ValueError, match="is the model of wide, and stands where that"):
        world.answer("candidate", models["wide"], tmp_path)


def test_predictions_are_kept_image_by_image(evaluated, wrong, world):
    folder, _ = evaluated
    found = np.load(folder / "predictions.npz", allow_pickle=False)
    assert found["ids"].tolist() == [b"%d" % i for i in range(EXAMPLES)]
    np.testing.assert_array_equal(found["labels"], world.labels)
    for role, flags in wrong.items():
        predicted = found[f"probabilities/{role}"].argmax(axis=1)
        np.testing.assert_array_equal(predicted != world.labels, flags)


def test_pictures_of_any_size_are_sliced_by_it(world, evaluated, wrong, tmp_path):
    """By quarters of eval, which are test's limits, too."""
    import shutil

    import tensorflow_model_analysis as tfma
    from tfx.types import standard_artifacts

    sizes = np.random.default_rng(3).integers(16, 769, EXAMPLES)
    sizes[:150] = 240  # more than a quarter
    names = ("baseline", "candidate")
    for name in names:
        shutil.copytree(evaluated[0] / "answers" / name, tmp_path / name)
        for split, given in (("eval", sizes), ("test", np.full(10, 9000))):
            file = tmp_path / name / f"{split}.npz"
            np.savez(file, sizes=given, **np.load(file, allow_pickle=False))
    given = [
        verdict._artifact(standard_artifacts.Model, tmp_path / name) for name in names
    ]
    comparison = world.compare(given, tmp_path / "out")
    ordered = np.sort(sizes)
    limits = [*dict.fromkeys(int(ordered[n * EXAMPLES // 4 - 1]) for n in (1, 2, 3))]
    assert 240 in limits
    ends = [-1, *limits, 10_000]
    words = [f"up to {limits[0]} px", f"over {limits[-1]} px"]
    words[1:1] = [f"{a + 1} to {b} px" for a, b in zip(limits, limits[1:])]  # noqa: B905
    for name in names:
        parts = comparison["models"][name]["slices"]
        found = {k: each for k, each in parts.items() if k.startswith("size=")}
        assert [*found] == [f"size={each}" for each in words]
        result = tfma.load_eval_result(str(tmp_path / "out"), model_name=name)
        told = {key: metrics[""][""] for key, metrics in result.slicing_metrics}
        for place, (each, low, high) in enumerate(
            zip(found.values(), ends, ends[1:], strict=False)
        ):
            inside = (sizes > low) & (sizes <= high)
            counted = (each["examples"], each["errors"])
            assert counted == (inside.sum(), wrong[name][inside].sum())
            error = told[(("size_band", place),)]["error"]["doubleValue"]
            assert error == pytest.approx(each["error"])
    tested = json.loads((tmp_path / "out/test/comparison.json").read_text())
    keys = tested["models"]["baseline"]["slices"]
    assert [k for k in keys if k.startswith("size")] == [f"size={words[-1]}"]
    kept = np.load(tmp_path / "out/predictions.npz", allow_pickle=False)
    np.testing.assert_array_equal(kept["sizes"], sizes)


def test_two_counts_that_differ_stop_the_run(evaluated):
    from components.evaluator.executor import _check_counts
    from contract.comparison import Comparison

    folder, comparison = evaluated
    _check_counts(str(folder), Comparison.from_plain(comparison, "as written"))
    other = json.loads(json.dumps(comparison))
    other["models"]["candidate"]["error"] += 1 / EXAMPLES
    with pytest.raises(RuntimeError, match="candidate: TFMA counts"):
        _check_counts(str(folder), Comparison.from_plain(other, "edited"))


@pytest.fixture(scope="module")
def broken(world, wrong) -> dict[str, Path]:
    """Models that nobody should serve."""
    import tensorflow as tf

    flags = wrong["candidate"]
    made = {
        "nan": world.write_table("nan", flags),
        "names": world.write_table("n", flags),
    }
    for folder in made.values():  # tables of a contender that is called otherwise
        (folder / "Format-Serving/assets.extra/run.json").unlink()

    class Odd(tf.Module):
        """The answers of another model, spoilt."""

        def __init__(self, folder: Path, spoil) -> None:
            super().__init__()
            self.model = tf.saved_model.load(str(folder / "Format-Serving"))
            self.spoil = spoil

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def serve(self, examples):
            answer = dict(
                self.model.signatures["serialized_examples"](examples=examples)
            )
            return self.spoil(answer)

        @tf.function(input_signature=[tf.TensorSpec([None, 24, 24, 3], tf.uint8)])
        def serve_images(self, images):
            return {"probabilities": tf.zeros([tf.shape(images)[0], 10])}

    def nan(answer):
        first = tf.range(tf.shape(answer["probabilities"])[0])[:, None] == 0
        poison = tf.where(first, float("nan"), 0.0)
        return answer | {"probabilities": answer["probabilities"] + poison}

    def names(answer):
        return answer | {"class_name": tf.strings.join(["not ", answer["class_name"]])}

    folders = {}
    for name, spoil in (("nan", nan), ("names", names)):
        odd = Odd(made[name], spoil)
        folders[name] = world.folder / f"odd-{name}"
        tf.saved_model.save(
            odd,
            str(folders[name] / "Format-Serving"),
            signatures={"serialized_examples": odd.serve},
        )
    odd = Odd(made["nan"], lambda answer: answer)
    folders["signature"] = world.folder / "odd-signature"
    tf.saved_model.save(
        odd,
        str(folders["signature"] / "Format-Serving"),
        signatures={"serving_default": odd.serve},
    )
    folders["size"] = world.folder / "odd-size"
    tf.saved_model.save(
        odd,
        str(folders["size"] / "Format-Serving"),
        signatures={
            "serving_default": odd.serve_images,
            "serialized_examples": odd.serve,
        },
    )
    folders["empty"] = world.folder / "odd-empty"
    folders["empty"].mkdir()
    return folders


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nan", "its probabilities are not numbers for 4 of 400 images"),
        ("names", "it calls class "),
        ("signature", "it has no signature serialized_examples, only serving_default"),
        ("size", "it takes images of 24 x 24 x 3, and the data's are 32 x 32 x 3"),
        ("empty", "it cannot be run: "),
    ],
)
def test_a_broken_candidate_is_refused_with_the_reason(
    world, models, broken, tmp_path, name, words
):
    chosen = {"baseline": models["baseline"], "candidate": broken[name]}
    comparison = world.evaluate(chosen, tmp_path)
    assert words in comparison["models"]["candidate"]["problem"]
    assert "candidate" not in " ".join(np.load(tmp_path / "predictions.npz"))
    assert comparison["models"]["baseline"]["problem"] is None
    assert world.decide(chosen, tmp_path, "best") == "baseline"
    decision = json.loads((tmp_path / "decision" / "decision.json").read_text())
    assert any(words in line for line in decision["blocked_by"])
    assert "cannot be pushed" in decision["reason"]


def test_an_empty_split_is_refused(world, models, tmp_path):
    from components.answers import inference

    with pytest.raises(ValueError, match="nothing to measure"):
        inference.describe([], known("digits"), world.transform, part=10)


@pytest.mark.parametrize("policy", ["best", "superior", "non_inferior"])
def test_from_the_comparison_to_the_version_folder(world, models, tmp_path, policy):
    """A candidate beyond doubt better is pushed by every policy, byte for byte."""
    chosen = {role: models[role] for role in ("wide", "candidate", "baseline")}
    world.evaluate(chosen, tmp_path)
    assert world.decide(chosen, tmp_path, policy) == "candidate"
    (version,) = (tmp_path / "serving" / "table").glob("[0-9]*")
    source = models["candidate"] / "Format-Serving"
    for file in filter(Path.is_file, source.rglob("*")):
        assert (version / file.relative_to(source)).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("passed", [True, False, None])
@pytest.mark.parametrize("winner", ["candidate", "in_service"])
def test_only_what_won_and_passed_the_canary_is_pushed(
    world, models, served, evaluated, tmp_path, winner, passed
):
    """`passed` None: there was no canary."""
    import shutil

    from tfx.types import standard_artifacts

    from components.atomic_pusher.executor import Executor

    folder = tmp_path / "evaluation"
    shutil.copytree(evaluated[0], folder)
    if winner == "in_service":
        comparison = json.loads((folder / "comparison.json").read_text())
        for role in ("baseline", "candidate", "wide"):
            comparison["models"][role]["problem"] = "it is broken"
        (folder / "comparison.json").write_text(json.dumps(comparison))
    pushed_role = world.decide(models, folder, "best")
    assert pushed_role == (None if winner == "in_service" else winner)
    # The same model and blessing again, now with the canary's word.
    model = verdict._artifact(standard_artifacts.Model, folder / "chosen")
    blessing = verdict._artifact(standard_artifacts.ModelBlessing, folder / "blessing")
    blessing.set_int_custom_property("blessed", int(winner == "candidate"))
    inputs = {"model": [model], "model_blessing": [blessing]}
    if passed is not None:
        canary = verdict._artifact(
            standard_artifacts.InfraBlessing, tmp_path / "canary"
        )
        (
            tmp_path / "canary" / ("INFRA_BLESSED" if passed else "INFRA_NOT_BLESSED")
        ).touch()
        canary.set_int_custom_property("blessed", int(passed))
        inputs["infra_blessing"] = [canary]
    output = verdict._artifact(standard_artifacts.PushedModel, tmp_path / "pushed")
    Executor().Do(
        inputs, {"pushed_model": [output]}, {"destination": str(tmp_path / "serving")}
    )
    expected = winner == "candidate" and passed is not False
    assert bool(output.get_int_custom_property("pushed")) == expected


def test_the_simulation_runs(monkeypatch):
    """A few draws of `make bench-verdict`, at a tenth of the images and a clear gain."""
    assert verdict.pushed_candidates(0.03, range(2), examples=2_000) == 2
