"""The set-up: how `.venv` is made, and the locks that it is made from."""
