"""Which files of a folder, an archive or a table are images, of which class and split."""

import gzip
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from components.example_gen import choice, own_files, sources
from components.example_gen.errors import DataError
from contract.config.data import DataConfig
from tests.components.example_gen import own

ANY = b"not looked at here"


def files(*names):
    return dict.fromkeys(names, ANY)


def listed(found):
    return {image.name: (image.label, image.split) for image in found.images}


SPLIT = {
    "none": (
        files("cat/1.png", "cat/more/2.JPG", "dog/a b ü.webp"),
        {
            "cat/1.png": ("cat", None),
            "cat/more/2.JPG": ("cat", None),
            "dog/a b ü.webp": ("dog", None),
        },
    ),
    "train and val": (
        files("train/cat/1.png", "train/dog/2.gif", "val/cat/3.bmp"),
        {
            "train/cat/1.png": ("cat", "train"),
            "train/dog/2.gif": ("dog", "train"),
            "val/cat/3.bmp": ("cat", "test"),
        },
    ),
    "all three": (
        files("Train/a/1.png", "Train/b/1.png", "Validation/b/1.png", "TEST/a/1.png"),
        {
            "Train/a/1.png": ("a", "train"),
            "Train/b/1.png": ("b", "train"),
            "Validation/b/1.png": ("b", "eval"),
            "TEST/a/1.png": ("a", "test"),
        },
    ),
    "valid, as exporters of data sets call it": (
        files("train/a/1.png", "train/b/1.png", "valid/a/1.png", "test/b/1.png"),
        {
            "train/a/1.png": ("a", "train"),
            "train/b/1.png": ("b", "train"),
            "valid/a/1.png": ("a", "eval"),
            "test/b/1.png": ("b", "test"),
        },
    ),
    "valid without train": (
        files("valid/1.png", "invalid/1.png"),
        {"valid/1.png": ("valid", None), "invalid/1.png": ("invalid", None)},
    ),
    "train alone": (
        files("train/a/1.png", "train/b/1.png"),
        {"train/a/1.png": ("a", None), "train/b/1.png": ("b", None)},
    ),
    "inside of a folder": (
        files("pets/train/a/1.png", "pets/train/b/1.png", "pets/test/a/1.png"),
        {
            "pets/train/a/1.png": ("a", "train"),
            "pets/train/b/1.png": ("b", "train"),
            "pets/test/a/1.png": ("a", "test"),
        },
    ),
    "hidden and other files": (
        files(
            "a/1.png",
            "b/1.png",
            ".git/a/1.png",
            "a/.1.png",
            "__MACOSX/a/1.png",
            "notes.txt",
            "a/Thumbs.db",
        ),  # fmt: skip
        {"a/1.png": ("a", None), "b/1.png": ("b", None)},
    ),
}


@pytest.mark.parametrize("case", SPLIT)
@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_folders_say_classes_and_splits(tmp_path, case, kind):
    made, wanted = SPLIT[case]
    if kind == "folder":
        path = own.write(tmp_path / "x", made)
    else:
        path = own.write_tar(tmp_path / "x.tar", made)
    found = own_files.find(path)
    assert listed(found) == wanted and found.kind == kind
    assert found.class_names == tuple(sorted({label for label, _ in wanted.values()}))
    for image in found.images:
        assert own_files.content(found.root, image, 100) == ANY
        assert own_files.content(found.root, image, 3) == ANY[:3]
    others = ("a/Thumbs.db", "notes.txt") if case.startswith("hidden") else ()
    assert found.passed_over == others


def test_numbers_in_names_are_in_order(tmp_path):
    names = ["10", "9", "b2", "b10", "a", "B1", "é", "2 cats"]
    own.write(tmp_path, files(*(f"{name}/1.png" for name in names)))
    assert own_files.find(str(tmp_path)).class_names == (
        "2 cats", "9", "10", "B1", "a", "b2", "b10", "é",
    )  # fmt: skip


def test_one_accent_in_two_forms_is_one_class(tmp_path):
    """As macOS and Linux write it."""
    own.write(
        tmp_path,
        files("train/caf\u00e9/1.png", "train/tea/1.png", "test/cafe\u0301/2.png"),
    )
    assert own_files.find(str(tmp_path)).class_names == ("caf\u00e9", "tea")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (files("a/1.txt"), "no picture is there (.png .jpg"),
        (files("a/1.png", "a/2.png"), "one class only, a"),
        (files("a/1.png", "b/1.png", "c/"), "the class c has no image"),
        (files("a/1.png", "b/1.png", "c/x.txt"), "the class c has no image"),
        (files("a/1.png", "b/1.png", "1.png"), "1.png is in no class's folder"),
        (files("train/a/1.png", "train/b/1.png", "val/1.png"), "val/1.png is in no"),
        (files("Cat/1.png", "cat/1.png"), "Cat and cat differ in capitals only"),
        (files("cat/1.png", "cat /1.png"), "cat and cat  differ in spaces only"),
        (
            files("train/a/1.png", "train/b/1.png", "test/A/1.png"),
            "A and a differ in capitals only",
        ),
        (files("a/1.png", "train/b/1.png"), "splits (train) and of classes (a) stand"),
        (files("train/a/1.png", "val/a/1.png", "eval/a/1.png"), "mean one split twice"),
        (files("a/train/1.png", "b/train/1.png"), "as train/a"),
        (files("val/a/1.png", "val/b/1.png"), "has no images for train"),
        (
            files("train/a/1.png", "train/b/1.png", "test/c/1.png"),
            "the class c has no image in train",
        ),
        (files("a\nb/1.png", "c/1.png"), "must be a name in UTF-8 on one line"),
        (files(f"{'a' * 101}/1.png", "c/1.png"), "at most 100 characters"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_what_is_no_data_set_is_one_sentence(tmp_path, made, words, kind):
    if kind == "folder":
        path = own.write(tmp_path / "x", made)
    else:
        path = own.write_tar(tmp_path / "x.tar", made)
    with pytest.raises(DataError) as caught:
        own_files.find(path)
    message = str(caught.value)
    assert words in message and message.startswith(f"data.path={path}: ")
    assert "\n" not in message and len(message) < 300 + len(path)


@pytest.mark.parametrize("target", ["file", "folder", "nothing", "inside"])
def test_links_do_not_lead_out_of_the_folder(tmp_path, target):
    root = tmp_path / "x"
    own.write(root, files("a/1.png", "b/1.png"))
    own.write(tmp_path / "elsewhere", files("2.png"))
    targets = {
        "file": tmp_path / "elsewhere/2.png",
        "folder": tmp_path / "elsewhere",
        "nothing": tmp_path / "none",
        "inside": root / "b/1.png",
    }
    (root / "a/link.png").symlink_to(targets[target])
    if target == "inside":
        assert "a/link.png" in listed(own_files.find(str(root)))
    else:
        with pytest.raises(DataError, match=r"a/link.png is a link to .*put the file"):
            own_files.find(str(root))


def test_what_is_no_file_is_not_waited_for(tmp_path):
    own.write(tmp_path, files("a/1.png", "b/1.png"))
    os.mkfifo(tmp_path / "a/2.png")
    assert "a/2.png" not in listed(own_files.find(str(tmp_path)))


HOSTILE = {
    "a link": "is a link or device",
    "a hard link": "is a link or device",
    "above": "lies outside",
    "absolute": "lies outside",
    "cut off": "copy",
    "cut between": "damaged or cut off",
    "damaged": "damaged or cut off",
    "compressed": "unpack it",
    "empty": "no readable .tar",
    "a text": "no readable .tar",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives_are_one_sentence(tmp_path, case):
    path = tmp_path / "x.tar"
    made = own.contents(count=3)
    own.write_tar(path, made)
    if case in ("a link", "a hard link", "above", "absolute"):
        entry = tarfile.TarInfo(
            {"above": "../x.png", "absolute": "/x.png"}.get(case, "z")
        )
        if "link" in case:
            entry.type = tarfile.LNKTYPE if "hard" in case else tarfile.SYMTYPE
            entry.linkname = "/etc/passwd"
        with tarfile.open(path, "a") as archive:
            archive.addfile(entry)
    whole = path.read_bytes()
    if case == "cut off":
        path.write_bytes(whole[:7000])
    elif case == "cut between":
        with tarfile.open(path) as archive:
            third = archive.getmembers()[3]
        path.write_bytes(whole[: third.offset])
    elif case == "damaged":
        with tarfile.open(path) as archive:
            third = archive.getmembers()[3]
        path.write_bytes(
            whole[: third.offset] + b"\xff" * 512 + whole[third.offset + 512 :]
        )
    elif case == "compressed":
        path.write_bytes(gzip.compress(whole))
    elif case == "empty":
        path.write_bytes(b"")
    elif case == "a text":
        path.write_text("hello " * 1000)
    with pytest.raises(DataError) as caught:
        own_files.find(str(path))
    assert HOSTILE[case] in str(caught.value) and "\n" not in str(caught.value)


def table(tmp_path, text, *names):
    own.write(tmp_path, files(*(names or ("1.png", "sub/2.png"))))
    path = tmp_path / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_a_table_says_classes_and_splits(tmp_path):
    path = table(
        tmp_path,
        '\ufeffpath,label,split\r\n1.png,"cat, black",train\r\n\r\n'
        "./sub/../sub/2.png,7,train\r\nä.jpg,7,val\r\n",
        "1.png", "sub/2.png", "ä.jpg",
    )  # fmt: skip
    found = own_files.find(path)
    assert listed(found) == {
        "1.png": ("cat, black", "train"),
        "sub/2.png": ("7", "train"),
        "ä.jpg": ("7", "test"),
    }
    assert found.class_names == ("7", "cat, black")
    path = table(tmp_path, "path,label\n1.png,a\nsub/2.png,b\n")
    assert set(listed(own_files.find(path)).values()) == {("a", None), ("b", None)}


def test_a_table_may_have_whole_paths_of_its_folder(tmp_path):
    """As other tools write them; they are names in the folder, wherever that is."""
    (tmp_path / "link").symlink_to(tmp_path / "x")
    text = f"path,label,split\n{tmp_path}/x/1.png,a,train\n{tmp_path}/link/sub/2.png,b,"
    path = table(
        tmp_path / "x",
        f"{text}train\n3.png,a,valid\n",
        *("1.png", "sub/2.png", "3.png"),
    )
    wanted = {
        "1.png": ("a", "train"),
        "sub/2.png": ("b", "train"),
        "3.png": ("a", "test"),
    }
    for given in (path, str(tmp_path / "link/list.csv")):
        assert listed(own_files.find(given)) == wanted
    Path(path).write_text(f"path,label\n1.png,a\n{tmp_path}/x/1.png,b\n")
    with pytest.raises(DataError, match="line 3: 1.png stands there twice"):
        own_files.find(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "its first line must be path,label or path,label,split, and is empty"),
        (
            "1.png,a\nsub/2.png,b\n",
            "must be path,label or path,label,split, and is 1.png",
        ),
        ("path,label\n1.png\n", "line 2: has 1 cells, and the first line 2"),
        ("path,label\n1.png,\n", "line 2: has no label"),
        ("path,label\n,a\n", "line 2: has no path"),
        ("path,label\n3.png,a\n", "line 2: there is no file 3.png"),
        ("path,label\n1.png,a\n./1.png,b\n", "line 3: 1.png stands there twice"),
        ("path,label\n../x.png,a\n", "line 2: ../x.png lies outside"),
        ("path,label\n/etc/passwd,a\n", "line 2: /etc/passwd lies outside"),
        (
            "path,label,split\n1.png,a,both\n",
            "split 'both' must be train, val (or eval)",
        ),
        (b"path,label\n\xff.png,a\n", "cannot be read as a table in UTF-8"),
        ('path,label\n"1.png,a\n', "cannot be read as a table"),
        ("path,label\n1.png,a\n", "one class only, a"),
        ("path,label\n1.png,a\nsub/2.png,A\n", "A and a differ in capitals only"),
        ("path,label,split\n1.png,a,test\nsub/2.png,b,test\n", "no images for train"),
    ],
)
def test_what_is_no_table_is_one_sentence(tmp_path, text, words):
    path = table(tmp_path, text)
    with pytest.raises(DataError) as caught:
        own_files.find(path)
    message = str(caught.value)
    assert words in message and "\n" not in message


def test_a_link_in_a_table_leads_nowhere_else(tmp_path):
    own.write(tmp_path / "elsewhere", files("1.png"))
    path = table(tmp_path / "x", "path,label\n1.png,a\nlink.png,b\n", "1.png")
    (tmp_path / "x/link.png").symlink_to(tmp_path / "elsewhere/1.png")
    with pytest.raises(DataError, match="line 3: link.png lies outside"):
        own_files.find(path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "needs data.path"),
        ({"path": "/no/where"}, "there is no such file or folder"),
        ({"path": "gs://bucket/x"}, "does not run on Vertex AI"),
        ({"image_size": 20}, "must be a multiple of 8"),
        ({"channels": 2}, "must be 1 (grey) or 3 (RGB)"),
        ({"label": "coarse"}, "leave data.label out"),
    ],
)
def test_settings_that_do_not_fit_are_one_sentence(tmp_path, settings, words):
    own.write(tmp_path, files("a/1.png", "b/1.png"))
    if settings and "path" not in settings:
        settings = {**settings, "path": str(tmp_path)}
    with pytest.raises(DataError) as caught:
        sources.expected(DataConfig(name="folder", **settings))
    assert words in str(caught.value)


def test_more_than_the_memory_is_refused(tmp_path, monkeypatch):
    own.write(tmp_path, files("a/1.png", "b/1.png"))
    monkeypatch.setattr(own_files, "MOST_BYTES", 2 * 64 * 64 * 3)
    data = DataConfig(name="folder", path=str(tmp_path))
    assert sources.expected(data).pixels == (64, 64, 3)
    with pytest.raises(DataError, match="choose a smaller data.image_size"):
        sources.expected(DataConfig(name="folder", path=str(tmp_path), image_size=72))


def test_the_data_set_is_described_before_it_is_read(tmp_path):
    path = own.write(
        tmp_path / "pets", files(*(f"{c}/{n}.png" for c in "ab" for n in range(50)))
    )
    found = sources.expected(
        DataConfig(name="folder", path=path, image_size=32, channels=1)
    )
    assert found.title == "pets" and found.image_shape == (32, 32, 1)
    assert found.class_names == ("a", "b") and found.counts == {"train": 80, "test": 20}
    path = own.write(tmp_path / "x", SPLIT["all three"][0])
    found = sources.expected(DataConfig(name="folder", path=path))
    assert found.counts == {"train": 2, "eval": 1, "test": 1}


@pytest.mark.parametrize("kind", ["folder", "archive", "table"])
def test_the_fingerprint_follows_names_and_contents(tmp_path, kind):
    made = own.contents(count=3)

    def fingerprint(files):
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        own.write(root / "x", files)
        path = str(root / "x")
        if kind == "archive":
            path = own.write_tar(root / "x.tar", files)
        elif kind == "table":
            rows = "".join(f"x/{name},{name[:3]}\n" for name in sorted(files))
            path = table(root, f"path,label\n{rows}", "unused")
        return sources.local_fingerprint(DataConfig(name="folder", path=path))

    first = fingerprint(made)
    assert fingerprint(made) == first
    other = dict(made)
    other["cat/0.png"], other["dog/0.png"] = other["dog/0.png"], other["cat/0.png"]
    changed = {**made, "cat/0.png": own.picture(77)}
    more = {**made, "cat/9.png": own.picture(77)}
    assert len({first, *map(fingerprint, (other, changed, more))}) == 4


@pytest.mark.parametrize("name", ["x", "x.tar", "x.csv"])
def test_auto_recognises_pictures(tmp_path, name):
    own.write(tmp_path / "x", files("pets/train/a/1.png"))
    own.write(tmp_path, files("x.tar", "x.csv"))
    assert choice.resolve_auto(None, path=str(tmp_path / name))[0] == "folder"


def test_nothing_heavy_is_loaded_to_look_at_a_folder(tmp_path):
    own.write(tmp_path, files("a/1.png", "b/1.png"))
    code = (
        "import sys; from components.example_gen import sources\n"
        "from contract.config.data import DataConfig\n"
        f"sources.local_fingerprint(DataConfig(name='folder', path={str(tmp_path)!r}))\n"
        "print([m for m in ('tensorflow', 'apache_beam', 'grpc', 'PIL')\n"
        "       if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
