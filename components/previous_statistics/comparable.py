"""Whether statistics of earlier examples say anything of these."""

from __future__ import annotations

from trainer.examples import dataset_of


def of_one_form(name: str, uri: str, earlier_uri: str) -> bool:
    """Whether both were ingested with the same classes, and images of one size.

    A smaller image of the same scene is another image: means over blocks lose contrast and
    sharpness, which is no drift of the source. Another folder of images is none either.

    Args:
        name: Of the data set of both.
        uri: Of an Examples artifact.
        earlier_uri: Of another one; where it was deleted, the published form counts, and
            without one it is none.
    """
    try:
        found = [dataset_of(each, name) for each in (uri, earlier_uri)]
    except FileNotFoundError:
        return False
    forms = [(each.image_shape, dict(each.labels)) for each in found]
    return forms[0] == forms[1]
