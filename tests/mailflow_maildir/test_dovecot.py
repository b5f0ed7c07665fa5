"""What a real reader makes of the Maildir."""

from __future__ import annotations

import os
import poplib
from collections.abc import Callable
from pathlib import Path

import pytest

from mailflow.mail import Mail
from mailflow.testing.dovecot import Dovecot
from mailflow.verdicts import SENT, Report

from .conftest import Maildir

pytestmark = pytest.mark.interop("dovecot-pop3d")

MESSAGES = [
    b"Subject: plain\r\n\r\nHello\r\n.\r\n..\r\n",
    b"Subject: no end\r\n\r\nHello",
    b"Subject: a bare CR\r\n\r\nx\ry\r\r\nz\r\n",
    b"Subject: 8-bit\r\n\r\n\xe4\xff\r\n",
    b"no header at all\r\n",
    b"Subject: long\r\n\r\n" + b"0123456789\r\n" * 200_000,
]


def test_dovecot_serves_each_mail_whole_with_the_size_that_its_name_tells(
    tmp_path: Path, mail: Callable[..., Mail]
) -> None:
    with Dovecot(tmp_path / "dovecot") as dovecot:
        dovecot.add_user("red", "secret")
        maildir = Maildir(Path(dovecot.maildir("red")))
        mails = [mail(number, data) for number, data in enumerate(MESSAGES)]
        assert maildir.deliver(*mails) == [Report("", SENT)] * len(MESSAGES)
        owner = maildir.path.stat()
        for file in [*maildir.files("new"), *maildir.path.iterdir()]:
            os.chown(file, owner.st_uid, owner.st_gid)
        pop3 = poplib.POP3("127.0.0.1", dovecot.pop3_port)
        pop3.user("red")
        pop3.pass_("secret")
        sizes = [int(line.split()[1]) for line in pop3.list()[1]]
        served = [b"\r\n".join(pop3.retr(number + 1)[1]) for number in range(len(sizes))]
        # In a file with LF lines Dovecot takes CRLF for a line end too: one CR is its own.
        expected = [data.replace(b"\r\r\n", b"\r\n") for data in MESSAGES]
        assert sorted(served) == sorted(data.removesuffix(b"\r\n") for data in expected)
        assert sorted(sizes) == sorted(map(len, expected))
        names = [file.name.partition(":")[0] for file in maildir.files("cur")]
        assert sorted(sizes) == sorted(int(name.rpartition(",W=")[2]) for name in names)
        pop3.quit()
        assert "Error" not in dovecot.log, dovecot.log
