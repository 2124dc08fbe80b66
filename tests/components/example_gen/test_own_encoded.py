"""Pictures that stay files: what is wrong with one is said as of pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.example_gen import own_files, own_records
from contract.config.data import DataConfig
from serving.client.errors import InvalidInput
from tests.components.example_gen import own
from tests.components.example_gen.test_executor import ingest
from tests.serving import pictures

pytestmark = pytest.mark.tf


def encoded(tmp_path, content):
    """One picture's file, as an example holds it."""
    from components.example_gen import own_encoded

    found = own_files.find(
        own.write(tmp_path, {"a/1 ü.jpg": content, "b/1.png": own.picture(0)})
    )
    splits = own_records.placed(found, DataConfig(name="folder")).splits
    (item,) = (
        item for part in splits.values() for item in part
        if item.image.label == "a"
    )  # fmt: skip
    return own_encoded.encoded(found.root, item)


@pytest.mark.parametrize("case", own.UNREADABLE)
def test_what_is_no_picture_is_one_sentence(tmp_path, case):
    content, words = own.UNREADABLE[case]
    with pytest.raises(InvalidInput) as caught:
        encoded(tmp_path, content)
    message = str(caught.value)
    assert message.startswith("a/1 ü.jpg: ") and words in message
    assert "\n" not in message


def test_a_side_that_the_decoder_does_not_take_is_found_here(tmp_path):
    """libpng takes a million pixels a side: training would end in the middle."""
    long = Image.new("L", (1_000_001, 1))
    with pytest.raises(InvalidInput, match="a/1 ü.jpg: .*1000001 x 1 pixels"):
        encoded(tmp_path, pictures.encoded(long, "PNG"))


def test_bytes_too_many_in_a_jpeg_file_are_no_damage(tmp_path):
    """As of photographs of the Oxford pets, at which others' decoders only warn."""
    import tensorflow as tf

    from trainer import crops

    content = own.JPEG[:-2] + bytes(245) + own.JPEG[-2:]
    stored = encoded(tmp_path, content)
    assert stored == content
    whole, padded = (crops.decode(tf.constant(file)) for file in (own.JPEG, stored))
    assert np.array_equal(whole, padded)


@pytest.mark.parametrize("files", [False, True])
def test_any_name_will_do(tmp_path, files):
    """Spaces, other alphabets, brackets, per cent signs: of folders and of files."""
    names = ("große Hunde", "猫 [1] 100%")
    made = {
        f"{label}/{n} {label}*?#.jpg": own.picture(100 * place + n, kind="JPEG")
        for place, label in enumerate(names)
        for n in range(40)
    }
    made["große Hunde/kein Bild ü.jpg"] = b"I am a dog\n"
    made["große Hunde/a\nb\udcff.txt"] = b""
    artifact = ingest(
        tmp_path / "out",
        name="folder",
        path=own.write(tmp_path / "ein Ordner", made),
        encoded=files,
        image_size=16,
        unreadable_limit=0.05,
    )
    described = json.loads(Path(artifact.uri, "dataset.json").read_text())
    assert described["labels"] == {"label": list(names)}
    assert sum(described["counts"].values()) == 80
    broken, others = json.loads(artifact.get_string_custom_property("remarks"))
    assert "kein Bild ü.jpg: no PNG, JPEG" in broken
    assert broken.isprintable() and others.isprintable() and "1 files have no" in others
