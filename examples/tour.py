# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A tour of a run
#
# `make run` leaves everything that it did in one folder. This page opens that folder and
# looks at four things: where the published model comes from, how the networks do on each
# kind of image, the images on which they disagree, and what the model answers when it is
# served.
#
# It runs with the project's own Python: choose `.venv` as kernel in an editor that knows
# notebooks, or run the same lines as a script, `.venv/bin/python examples/tour.py`. The
# text is kept in `tour.py`; `.venv/bin/jupytext --sync examples/tour.ipynb` brings the two
# together.

# %% tags=["parameters"]
OUTPUT = "../output"  # a run's output folder; relative to this file

# %%
import base64
import io
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's own remarks
os.chdir(Path(globals().get("__file__", "tour.py")).resolve().parent)

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow_model_analysis as tfma
from PIL import Image

from contract.comparison import Comparison
from contract.predictions import Predictions
from contract.records import COMPARISON_FILE, PREDICTIONS_FILE
from pipeline.history import metadata, published
from pipeline.report import pictures
from serving.client import Classifier
from trainer.examples import dataset_of

logging.getLogger("tensorflow").setLevel(logging.ERROR)

# %% [markdown]
# ## Where the model comes from
#
# Every node of the pipeline writes to ML Metadata what it was given and what it made. From
# the version in service, following inputs back, one gets to the images: its lineage.
# `pipeline.py models show VERSION` prints the same as JSON.

# %%
places = published.places([f"output_root={OUTPUT}"], os.getcwd())
versions = metadata.read(places)
assert versions, f"{places.output_root}: nothing was published; the tour needs a model"
served = next(each for each in versions if each.in_service)
lineage = metadata.lineage(places, served.version)
print(f"version {served.version}: {served.network}, {served.role}")
print(served.reason)

# %%
executions = lineage["executions"]
maker = {
    number: step["node"]
    for step in executions
    for numbers in step["outputs"].values()
    for number in numbers
}
before = {
    step["node"]: {
        maker[number]
        for numbers in step["inputs"].values()
        for number in numbers
        if number in maker
    }
    for step in executions
}
pd.DataFrame(
    {
        "started": [step["started"][11:19] for step in executions],
        "from": [", ".join(sorted(before[step["node"]])) for step in executions],
        "makes": [", ".join(sorted(step["outputs"])) for step in executions],
    },
    index=[step["node"] for step in executions],
)

# %%
layer: dict[str, int] = {}
for step in executions:  # in the order in which they ran: inputs come first
    node = step["node"]
    layer[node] = 1 + max((layer[each] for each in before[node]), default=-1)
columns = [
    [n for n in layer if layer[n] == at] for at in range(max(layer.values()) + 1)
]
place = {
    # Neighbouring columns a little up and down, so that no arrow runs through a node.
    node: (at, (row + 1) / (len(column) + 1) + 0.07 * (-1) ** at)
    for at, column in enumerate(columns)
    for row, node in enumerate(column)
}
figure, axes = plt.subplots(figsize=(12, 4), dpi=80)
figure.subplots_adjust(0, 0, 1, 1)
for node, sources in before.items():
    for source in sources:
        arrow = {"arrowstyle": "->", "color": "0.6", "shrinkB": 24}
        axes.annotate("", place[node], place[source], arrowprops=arrow)
for node, (x, y) in place.items():
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "\n", node)
    box = {"boxstyle": "round", "facecolor": "#e8eaf6", "edgecolor": "#3f51b5"}
    axes.text(x, y, words, ha="center", va="center", fontsize=9, bbox=box)
axes.set_xlim(-0.5, len(columns) - 0.5)
axes.set_ylim(0.1, 0.95)
axes.axis("off")
plt.show()

# %% [markdown]
# ## How the networks do, slice by slice
#
# The Evaluator's artifact holds TensorFlow Model Analysis's own files. Errors of each
# class, of both networks, with the number of images that they are measured on: few images,
# wide intervals, and what looks like a difference need not be one (the verdict is a paired
# test over all images).

# %%
made = {
    (step["node"], key): numbers[0]
    for step in executions
    for key, numbers in step["outputs"].items()
}
uris = {artifact["id"]: artifact["uri"] for artifact in lineage["artifacts"]}
evaluation = uris[made["Evaluator", "evaluation"]]
examples = uris[made["CifarExampleGen", "examples"]]
data = dataset_of(examples)

rows = []
for record in tfma.load_metrics(evaluation):
    keys = record.slice_key.single_slice_keys
    if [key.column for key in keys] != [data.label_key]:
        continue
    for item in record.metric_keys_and_values:
        if item.key.name in ("error", "example_count") and not item.key.is_diff:
            number = keys[0].int64_value
            value = item.value.double_value.value
            rows.append((number, item.key.model_name, item.key.name, value))
slices = pd.DataFrame(rows, columns=["class", "network", "metric", "value"])
errors = slices[slices.metric == "error"].pivot(
    index="class", columns="network", values="value"
)
counts = slices[slices.metric == "example_count"].groupby("class").value.first()
errors.index = [f"{data.class_names[n]} ({counts[n]:.0f})" for n in errors.index]
axes = (100 * errors).plot.barh(figsize=(8, 4.5), width=0.8)
axes.figure.set_dpi(80)
axes.invert_yaxis()
axes.set_xlabel("eval error, %")
axes.set_ylabel("class (images)")
plt.show()

# %% [markdown]
# ## Images on which the networks disagree
#
# Of every eval image the Evaluator keeps what each network answered. Here are those that
# exactly one of the two gets right; the surest answers first. On these alone rests the
# paired test.

# %%
path = Path(evaluation, COMPARISON_FILE)
with path.open("rb") as file:
    comparison = Comparison.read(file, str(path))
path = Path(evaluation, PREDICTIONS_FILE)
with path.open("rb") as file:
    predictions = Predictions.read(file, str(path), len(data.class_names))
two = ("baseline", "candidate")
assert set(two) <= predictions.probabilities.keys(), "both networks must have answered"
differ = pictures.disagreements(predictions, two, examples, data, str(path))
right = {name: sum(each["right"] == name for each in differ) for name in two}
print(
    f"of the {len(differ)} shown: " + ", ".join(f"{n} right in {right[n]}" for n in two)
)

figure, grid = plt.subplots(2, 6, figsize=(11, 5.2), dpi=80)
for axes in grid.flat:
    axes.axis("off")
for axes, each in zip(grid.flat, differ, strict=False):
    picture = base64.b64decode(each["picture"].partition(",")[2])
    axes.imshow(Image.open(io.BytesIO(picture)), cmap="gray")
    said = "\n".join(
        f"{name}: {each['says'][name]['class']} ({each['says'][name]['probability']:.0%})"
        for name in two
    )
    axes.set_title(f"is {each['label']}\n{said}", fontsize=8)
plt.tight_layout()
plt.show()

# %% [markdown]
# ## Ask the served model
#
# The embedded server answers as tensorflow_model_server does. The client needs no
# TensorFlow; here it sends the test images that the run left beside its report, one of each
# class.

# %%
server = subprocess.Popen(
    [
        sys.executable, "-m", "serving.server", "--port=-1", "--rest_api_port=-1",
        "--model_name=cifar", f"--model_base_path={Path(served.path).parent}",
    ],
    stderr=subprocess.PIPE, text=True,
)  # fmt: skip
line = next((line for line in server.stderr if line.startswith("serving ")), "")
assert line, "the server did not start"
address = re.search(r" on (\S+) \(gRPC\)", line)[1]
try:
    files = sorted(Path(places.output_root, "report", "images").glob("*.png"))
    with Classifier(address) as classifier:
        answers = classifier.classify(files)
finally:
    server.terminate()
    server.communicate()

figure, grid = plt.subplots(2, 5, figsize=(9, 4.4), dpi=80)
for axes in grid.flat:
    axes.axis("off")
for axes, file, answer in zip(grid.flat, files, answers, strict=False):
    axes.imshow(np.asarray(Image.open(file)), cmap="gray")
    axes.set_title(
        f"{file.stem}\nanswer: {answer.class_name} ({answer.probability:.0%})",
        fontsize=8,
    )
plt.show()
