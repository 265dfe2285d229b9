"""For all tests: signals as an operator's shell would have them.

Under nohup SIGHUP comes in ignored, in a shell's background SIGINT does, and every process that a test starts inherits it.
"""

import signal

signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
