"""Whether statistics of earlier examples say anything of these."""

from __future__ import annotations

from trainer.examples import dataset_of


def of_one_shape(name: str, uri: str, earlier_uri: str) -> bool:
    """Whether both were ingested with images of the same size and channels.

    A smaller image of the same scene is another image: means over blocks lose contrast and
    sharpness, which is no drift of the source.

    Args:
        name: Of the data set of both.
        uri: Of an Examples artifact.
        earlier_uri: Of another one; where it was deleted, the published shape counts.
    """
    shapes = [dataset_of(each, name).image_shape for each in (uri, earlier_uri)]
    return shapes[0] == shapes[1]
