"""The workshop: makes the notebooks from their text, builds the site, runs the tests."""

import os

# Before anything imports torch. One thread per process: with two busy cores, two threads were many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
