"""What the tests of whole models share."""

import gc

import pytest


@pytest.fixture(autouse=True)
def few_objects():
    """Hides what was there before from l2keras, which looks for models.

    It looks at all objects in memory: a quarter of a second in these tests.
    """
    gc.freeze()
    yield
    gc.unfreeze()
