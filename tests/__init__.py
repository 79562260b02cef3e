"""The tests, a package so that they find `tests.support` from anywhere."""
