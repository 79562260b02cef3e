"""What is beside the tests and is none."""

# Programs that tests run in a process of their own.
collect_ignore = ["programs"]
