"""`python -m serving.client`: classify images, look at a model, measure a server.

Results go to stdout, progress and complaints to stderr. Exit status: 0 done, 1 some
images could not be used, 2 wrong arguments, 3 the server did not do what was asked,
130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any

from serving.client import commands
from serving.client.classifier import Classifier
from serving.client.configured import DEFAULT_ADDRESS, DEFAULT_MODEL
from serving.client.errors import InvalidInput, NotFound, ServingError, Unavailable
from serving.client.options import TLS, Retry, Timeouts, parse_address
from serving.client.probe import speaks_tls

PROGRAM = "python -m serving.client"
_ECHO_SECONDS = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):  # names of files may be anything
        sys.stdout.reconfigure(errors="backslashreplace")
    # Pillow's, about pictures of which one sentence is said here, or nothing matters.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        with _classifier(options) as classifier:
            done = options.run(classifier, options)
        sys.stdout.flush()
        return done
    except ServingError as error:
        commands.complain(f"{PROGRAM}: {error}{_remedy(error, options)}")
        if options.verbose:
            for line in error.details.splitlines():
                commands.complain(line)
        return 2 if isinstance(error, InvalidInput) and not error.address else 3
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            commands.discard_stdout()
            return 0
        sys.stderr.write(f"{PROGRAM}: {error.filename or 'output'}: {error.strerror}\n")
        return 2
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"{PROGRAM}: {sys.executable} lacks a package ({error}); use the project's "
            ".venv/bin/python, or pip install ./serving/client\n"
        )
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


def _remedy(error: ServingError, options: argparse.Namespace) -> str:
    """What to do about an error, to stand after its sentence."""
    if isinstance(error, Unavailable):
        return _unavailable(error, options)
    if isinstance(error, NotFound):
        return _not_found(options)
    return ""


def _unavailable(error: Unavailable, options: argparse.Namespace) -> str:
    address = parse_address(options.server)
    rest = address.transport == "rest"
    encrypted = address.secure or options.tls
    if not encrypted and speaks_tls(address):
        flag = f"https{options.server[len('http') :]}" if rest else "--tls"
        return f". The port speaks TLS: ask with {flag}; --ca names its authority"
    for reason, remedy in _REMEDIES.items():
        if reason in error.message:
            return remedy
    flag = "rest_api_port" if rest else "port"
    return (
        f". Is a server running there? `python -m serving.server --{flag}=...` "
        "starts one; --server names another address"
    )


# By a part of the sentences of serving.client.errors; what they say themselves needs none.
_REMEDIES = {
    "certificate": ". --ca names authorities to trust, --server_name the name to expect",
    "does not speak TLS": ". Ask without --tls, or by http:// or grpc://",
    "does not speak gRPC": "",
}


def _not_found(options: argparse.Namespace) -> str:
    if options.version is None:
        return ". --model names the model"
    every = argparse.Namespace(**vars(options) | {"version": None, "attempts": 1})
    try:
        with _classifier(every) as classifier:
            found = classifier.status()
    except ServingError:  # not the model, either
        return ". --model names the model"
    available = [str(entry.version) for entry in found if entry.state == "AVAILABLE"]
    if not available:
        return ". No version of this model is available now"
    return f". --version takes one that is available: {', '.join(available)}"


def _classifier(options: argparse.Namespace) -> Classifier:
    metadata = {}
    for pair in options.metadata:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InvalidInput("--metadata takes KEY=VALUE, and one of them has no =")
        metadata[key] = value
    if options.token_file:
        with open(options.token_file, encoding="ascii") as file:
            try:
                metadata["authorization"] = f"Bearer {file.read().strip()}"
            except UnicodeDecodeError:
                raise InvalidInput(
                    f"--token_file {options.token_file} is not ASCII text"
                ) from None
    secure = parse_address(options.server).secure or options.tls
    files = (options.ca, options.certificate, options.key, options.server_name)
    tls = None
    if secure or any(files):
        tls = TLS(
            ca=options.ca,
            certificate=options.certificate,
            key=options.key,
            server_name=options.server_name,
        )
    return Classifier(
        options.server,
        model=options.model,
        version=options.version,
        version_label=options.version_label,
        timeouts=Timeouts(request=options.timeout),
        retry=Retry(attempts=options.attempts),
        tls=tls,
        metadata=metadata,
        batch_size=getattr(options, "batch_size", 128),
        in_flight=getattr(options, "in_flight", 4),
        resize=getattr(options, "resize", False),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    common = _common()

    def add(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        command = subparsers.add_parser(
            name, help=text, description=text, parents=[common], allow_abbrev=False
        )
        command.set_defaults(run=run)
        return command

    predict = add("predict", commands.predict, "classify image files and folders")
    predict.add_argument("paths", nargs="+", metavar="IMAGE_OR_FOLDER")
    predict.add_argument("--csv", metavar="FILE", help="write all answers; -: stdout")
    predict.add_argument(
        "--json", metavar="FILE", help="the same with all probabilities; -: stdout"
    )
    predict.add_argument(
        "--resize",
        action="store_true",
        help="bring pictures of other sizes to the model's: the middle (needs Pillow)",
    )
    _add_load(predict, batch_size=128)
    add("status", commands.status, "show the model's versions and their states")
    add("metadata", commands.metadata, "show the model's signatures")
    watch = add("watch", commands.watch, "report each change of the model's versions")
    watch.add_argument("--interval", type=float, default=1.0, metavar="SECONDS")
    watch.add_argument(
        "--seconds",
        type=float,
        default=None,
        help="stop after so long (default: never)",
    )
    bench = add("bench", commands.bench, "measure throughput and latency")
    bench.add_argument("--requests", type=int, default=500, metavar="N")
    bench.add_argument("--json", metavar="FILE", help="write the figures; -: stdout")
    _add_load(bench, batch_size=32)
    return parser


def _add_load(command: argparse.ArgumentParser, *, batch_size: int) -> None:
    command.add_argument(
        "--batch_size",
        type=int,
        default=batch_size,
        metavar="N",
        help=f"most images in a request (default {batch_size})",
    )
    command.add_argument(
        "--in_flight",
        type=int,
        default=4,
        metavar="N",
        help="most requests at a time (default 4)",
    )


def _common() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("server")
    group.add_argument(
        "--server",
        default=DEFAULT_ADDRESS,
        metavar="ADDRESS",
        help="host:8500, unix:/path, http://host:8501 (default %(default)s)",
    )
    group.add_argument("--model", default=DEFAULT_MODEL, help="default %(default)s")
    group.add_argument("--version", type=int, metavar="N", help="default: the newest")
    group.add_argument("--version_label", metavar="LABEL")
    group.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="for each request (default %(default)g)",
    )
    group.add_argument(
        "--attempts",
        type=int,
        default=5,
        metavar="N",
        help="how often a request is tried while the server is away or overloaded",
    )
    group.add_argument(
        "--metadata",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="sent along with each request; for secrets take --token_file",
    )
    group.add_argument(
        "--token_file", metavar="FILE", help="its content is sent as Bearer token"
    )
    group.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show all that a server says of an error",
    )
    group.add_argument("--tls", action="store_true", help="encrypt (gRPC)")
    group.add_argument("--ca", metavar="FILE", help="PEM: authorities to trust")
    group.add_argument("--certificate", metavar="FILE", help="PEM: the client's own")
    group.add_argument("--key", metavar="FILE", help="PEM: its private key")
    group.add_argument("--server_name", metavar="NAME", help="in the certificate")
    return parser


def end_on_signals() -> None:
    """SIGTERM ends a command as Ctrl-C does: what is half written is taken back.

    A signal right after another one (GNU `timeout` sends two) must not end that as well.
    """
    last = -_ECHO_SECONDS

    def end(number: int, _: object) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _ECHO_SECONDS:
            return
        last = now
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    # Shells switch it off for what runs in the background, and so it stays.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)


if __name__ == "__main__":
    end_on_signals()
    # Python has none where the shell closed them (>&-).
    sys.stdout = sys.stdout or io.StringIO()
    sys.stderr = sys.stderr or io.StringIO()
    # gRPC's own lines about what is said here in a sentence.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.exit(main())
