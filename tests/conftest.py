"""For all tests: signals as an operator's shell would have them, and a cache of their own.

Under nohup SIGHUP comes in ignored, in a shell's background SIGINT does, and every process that a test starts inherits it.
"""

import os
import signal
import tempfile

signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

_cache = tempfile.TemporaryDirectory(prefix="homelab-mesh-tests-")
os.environ["XDG_CACHE_HOME"] = _cache.name
