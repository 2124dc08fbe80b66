"""Where the private C library comes from, and how old it may be."""

import shutil
import subprocess

import pytest

from scripts import c_library

MIRROR = "mirror://example/debian"


@pytest.mark.parametrize(
    "text",
    [
        f"deb {MIRROR} bookworm main\n",
        f"deb [arch=amd64 signed-by=/k.gpg] {MIRROR} bookworm main contrib\n",
        f"Types: deb\n# comment\nURIs: {MIRROR}\nSuites: bookworm bookworm-updates\n"
        "Components: main\nSigned-By: /k.gpg\n",
        f"Types: deb deb-src\nURIs: {MIRROR}\nSuites: stable\nComponents: main\n"
        "Enabled: yes\n",
    ],
)
def test_the_archive_is_found_in_both_formats(text):
    assert c_library.parse_sources(text) == [MIRROR]


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"# deb {MIRROR} bookworm main\n",
        f"deb-src {MIRROR} bookworm main\n",
        f"deb {MIRROR} bookworm-updates main\n",
        f"deb {MIRROR}-security bookworm-security main\n",
        "deb mirror://vendor/ cloud-sdk-bookworm main\n",
        f"Types: deb\nURIs: {MIRROR}\nSuites: bookworm\nComponents: main\nEnabled: no\n",
        f"Types: deb\nURIs: {MIRROR}\nSuites: nodistro\nComponents: main\n",
        f"Types: deb\nURIs: {MIRROR}\nSuites: bookworm\nComponents: contrib\n",
    ],
)
def test_other_repositories_are_not_taken_for_the_archive(text):
    assert c_library.parse_sources(text) == []


def test_index_targets_with_and_without_downloaded_lists():
    lines = [
        f"Vendor|bookworm|{MIRROR}/vendor",
        f"Debian|bookworm-updates|{MIRROR}/updates",
        f"Debian|bookworm|{MIRROR}/a",
        f"|bookworm|{MIRROR}/b",
    ]
    assert c_library.parse_index_targets("\n".join(lines)) == [
        f"{MIRROR}/a",
        f"{MIRROR}/b",
    ]


def test_the_mirror_can_be_chosen(monkeypatch):
    monkeypatch.setenv(c_library.MIRROR_VARIABLE, MIRROR)
    assert c_library.debian_archive() == MIRROR


# ---- how old it may be ---------------------------------------------------------------


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no Debian: no dpkg")
@pytest.mark.parametrize(
    ("version", "old"),
    [
        ("2.41-12+deb13u4", True),
        ("2.41-12", True),
        ("2.41-12+deb13u5", False),
        ("2.41-12+deb13u10", False),  # numbers, not letters
        ("2.42-1", False),
    ],
)
def test_a_build_without_the_fixes_is_told(tmp_path, monkeypatch, version, old):
    monkeypatch.setitem(c_library.PACKAGES, "libc6", "2.41-12+deb13u5")
    control = tmp_path / "package/DEBIAN/control"
    control.parent.mkdir(parents=True)
    control.write_text(
        f"Package: libc6\nVersion: {version}\nArchitecture: amd64\n"
        "Maintainer: A <a@example>\nDescription: a\n"
    )
    file = str(tmp_path / "libc6.deb")
    make = ["dpkg-deb", "--build", str(tmp_path / "package"), file]
    subprocess.run(make, check=True, capture_output=True)
    warnings = c_library.too_old(file)
    assert len(warnings) == old
    for line in warnings:
        assert version in line and "2.41-12+deb13u5" in line
        assert c_library.MIRROR_VARIABLE in line and "make clean setup" in line
