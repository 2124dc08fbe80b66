"""Processes of tests that share a training, on the loopback address."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SECONDS = 300  # a process, TensorFlow's start included


def clusters(count: int) -> list[dict[str, str]]:
    """TF_CONFIG of each process, as Vertex AI gives it to the two pools of a job.

    Google's documentation, "Distributed training", section "The format of TF_CONFIG".
    """
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    first, *others = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    cluster = {"chief": [first], "worker": others}
    tasks = [("chief", 0), *(("worker", i) for i in range(len(others)))]
    return [
        {
            "TF_CONFIG": json.dumps(
                {
                    "cluster": cluster,
                    "task": {"type": kind, "index": index, "cloud": "ab"},
                    "environment": "cloud",
                }
            )
        }
        for kind, index in tasks
    ]


def start(
    arguments: list[str], environment: dict[str, str] | None = None
) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)} | (environment or {}),
    )
