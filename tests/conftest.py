"""Settings of all tests."""

import os

import hypothesis

# The same examples for everybody, so that a change fails for what it changed. To search
# for new ones: HYPOTHESIS_PROFILE=explore make test-fast
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# As pipeline.py has it: a person's own choice is no fault of what is tested.
os.environ["KERAS_BACKEND"] = "tensorflow"
