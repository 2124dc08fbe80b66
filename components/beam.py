"""Beam's command-line options for a pipeline that runs in its own process."""

from __future__ import annotations

# Without `--sdk_container_image`, every Beam node copies TFX into $TMPDIR and packs it, to be
# installed by remote workers: 52 MB that nobody deletes and 1 to 2 s (tfx 1.21,
# utils/dependency_utils.py, make_beam_dependency_flags, called by each executor in
# dsl/components/base/base_beam_executor.py; that one of five options is set is what keeps it
# from it). FnApiRunner has no other workers than threads of this process and asks for no
# image (apache-beam 2.77, runners/portability/fn_api_runner/fn_runner.py,
# EmbeddedPythonEnvironment). The runner is named because Beam's default one would try to
# download a program.
IN_PROCESS = ("--runner=FnApiRunner", "--sdk_container_image=unused")
