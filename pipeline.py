"""Entry of the pipeline: TFX loads this file, and a person runs it.

    python pipeline.py run data.name=digits
    tfx run create --pipeline_path pipeline.py
    python pipeline.py --help

Environment variables are read here and nowhere else.
"""

import os
import sys

_ENVIRONMENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), ".venv")
_REMEDY = "use {}, or `make run`, which sets it up first".format(
    os.path.join(_ENVIRONMENT, "bin", "python")
)


def main() -> None:
    """Hands over to TFX or to the command line, or says what this Python lacks."""
    if sys.version_info[:2] != (3, 11):  # older ones cannot even read the other files
        version = "{}.{}".format(*sys.version_info)
        sys.exit("error: Python 3.11 is needed, this is " + version + "; " + _REMEDY)
    # Chosen when Keras is imported, and by ~/.keras/keras.json if not here.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        # The package `pipeline/` beside this file wins the name `pipeline`.
        from pipeline import cli

        # TFX's command line (`tfx pipeline create`) has loaded TFX before it executes
        # this file; it wants to see a runner's run() and nothing on the screen.
        if "tfx" in sys.modules:
            cli.for_tfx(os.environ)
        else:
            from studies import commands as studies

            sys.exit(cli.main(sys.argv[1:], os.environ, [studies.add_parser]))
    except ImportError as error:
        if os.path.realpath(sys.prefix) == os.path.realpath(_ENVIRONMENT):
            raise
        sys.exit(f"error: {sys.executable} lacks a package ({error}); {_REMEDY}")


if __name__ == "__main__":
    main()
