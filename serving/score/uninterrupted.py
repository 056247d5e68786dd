"""Loaded by this machine's workers: a terminal interrupts them too, and each would print a traceback.

They end when the process that started them does.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)
