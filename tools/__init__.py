"""The workshop: makes the notebooks from their text, builds the site, runs the tests."""

import os
import sys

# Before anything imports torch. One thread per process: with two busy cores, two threads were many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# jsonschema, which all notebook tools import, would compile 39 grammars of addresses that nothing here checks: seconds at each start.
sys.modules.setdefault("rfc3987_syntax", None)
