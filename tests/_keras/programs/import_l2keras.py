"""Imports l2keras; prints why it cannot be imported."""

try:
    import l2keras
except ImportError as error:
    print(error)
else:
    print(l2keras.__version__)
