"""The papers' tables as studies: data in tables.py, run as one TFX pipeline each."""
