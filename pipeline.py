"""Entry of the pipeline: TFX loads this file, and a person runs it.

    python pipeline.py run --runtime_parameter data.name=digits
    tfx run create --pipeline_path pipeline.py
    python pipeline.py --help

Environment variables are read here and nowhere else.
"""

import os
import sys

# The package `pipeline/` beside this file wins the name `pipeline`.
from pipeline import cli

if __name__ == "__main__":
    # TFX's command line (`tfx pipeline create`) has loaded TFX before it executes this
    # file; it wants to see a runner's run() and nothing on the screen.
    if "tfx" in sys.modules:
        cli.for_tfx(os.environ)
    else:
        sys.exit(cli.main(sys.argv[1:], os.environ))
