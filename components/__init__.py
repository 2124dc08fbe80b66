"""The components that this project adds to TFX's own: contract beside work, a package each.

Vertex AI imports the artifact types of components/artifacts.py from here, by type name.
"""

from typing import Any

_ARTIFACTS = (
    *("Answers", "BatchPrediction", "Decision", "Report", "RunConfiguration"),
    "StudyReport",
)


def __getattr__(name: str) -> Any:
    # Late: importing TFX takes seconds, and most modules below need none of it.
    if name not in _ARTIFACTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from components import artifacts

    return getattr(artifacts, name)
