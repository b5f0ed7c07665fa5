"""Signals that end a run: the second one ends it whatever is going on."""

from __future__ import annotations

import signal
import subprocess
import sys

TWICE = """
import os, signal, sys
from mailflow.engine.stopping import stop_on
from mailflow.halt import Halt

class Busy:
    def write(self, text):
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

sys.stderr = Busy()
halt = Halt()
stop_on(halt, signal.SIGTERM)
os.kill(os.getpid(), signal.SIGTERM)
assert halt.is_set()
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_the_second_signal_ends_a_process_that_is_writing_to_the_terminal() -> None:
    ended = subprocess.run([sys.executable, "-c", TWICE], timeout=30, check=False)
    assert ended.returncode == -signal.SIGTERM
