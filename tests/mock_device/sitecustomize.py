"""Python runs this when it begins, in each process that has this folder."""

import os

if os.environ.get("KERAS_TORCH_DEVICE", "").startswith("mock"):
    import mock_device  # noqa: F401
