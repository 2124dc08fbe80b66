"""Entry of the set-up: `PYTHON scripts/setup.py`, with any Python, from any folder.

Every Python can read this file; an old one gets a sentence in place of the syntax error
that the others would be to it.
"""

import os
import sys

if sys.version_info < (3, 8):  # noqa: UP036 (the Python that starts it, not .venv's)
    sys.exit(
        "\nset-up stopped: Python %d.%d cannot start it, 3.8 and newer can; "  # noqa: UP031
        "with Python 3.11 on this machine: `make setup PYTHON=python3.11`, else "
        "`apt-get install python3.11 python3.11-venv python3.11-dev`, "
        "`pyenv install 3.11` or `uv python install 3.11`" % sys.version_info[:2]
    )

# The project's folder, before any other package of the name `scripts`.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from scripts.environment import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
