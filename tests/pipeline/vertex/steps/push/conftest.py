"""The bucket of the tests in this folder."""

from tests.object_storage.emulator import (  # noqa: F401
    object_storage,
    object_storage_server,
)
