"""What a large mail costs: memory does not grow with it."""

from __future__ import annotations

import os
import subprocess
import sys

from mailflow.testing.smtp import SmtpSink

CHILD = """
import sys
from mailflow import Envelope, Mail, OctetFile, Runtime, Ticket
from mailflow.log import get_logger
from mailflow.halt import Halt
from mailflow_smtp.distributor import SmtpDistributor, SmtpOptions

def send(path):
    mail = Mail("m", Envelope("red@example.org"), OctetFile(path))
    with SmtpDistributor(options, runtime) as smtp:
        (report,) = smtp.distribute(mail, Ticket("t", ("ann@example.org",)))
    assert report.outcome.value == "sent", report
    with open("/proc/self/status") as status:  # ru_maxrss holds the parent's, too
        return next(line.split()[1] for line in status if line.startswith("VmHWM"))

options = SmtpOptions({"host": "127.0.0.1", "port": int(sys.argv[1])})
runtime = Runtime("smtp", "red", Halt(), get_logger(), ".")
print(*map(send, sys.argv[2:]))
"""

MIB = 1 << 20


def test_f10_500_mib_take_no_more_memory_than_one(tmp_path):
    paths = []
    for size in (MIB, 500 * MIB):
        path = tmp_path / str(size)
        with open(path, "wb") as file:
            file.write(b"Subject: x\r\n\r\n" + b"0123456789abcde\r\n" * 1000)
            file.truncate(size)  # a hole: octets that cost no disk
        paths.append(os.fspath(path))
    with SmtpSink(keep=False) as sink:
        run = subprocess.run(
            [sys.executable, "-c", CHILD, str(sink.port), *paths],
            capture_output=True, text=True, timeout=110, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        assert [message.size for message in sink.messages] == [MIB + 2, 500 * MIB + 2]
    small, large = map(int, run.stdout.split())  # KiB
    assert large < 64 * 1024
    assert large - small < 4 * 1024
