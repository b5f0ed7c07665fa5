"""`mailflow run` by a person at a terminal, who is told why nothing happens; cron is not."""

from __future__ import annotations

import os
import pty
import re

from mailflow.testing.pop3 import Faults

from .command import CANARY, FETCH, HOOK, MAIL, Done, Shop, pop3
from .test_run import POST, await_


def at_a_terminal(shop: Shop, *arguments: str) -> Done:
    """The command with a terminal as stderr; `err` is what stands there, without colours."""
    ours, theirs = pty.openpty()
    child = shop.start(*arguments, stderr=theirs)
    os.close(theirs)
    done = shop.end(child)
    said = os.read(ours, 65536).decode()
    os.close(ours)
    return done._replace(err=re.sub(r"\r\x1b\[K[^\r\n]*(?=\r\x1b\[K)|\x1b\[[0-9;]*[mK]", "", said))


def test_a_source_that_rests_is_named_with_the_way_to_ask_it_at_once(shop: Shop) -> None:
    with pop3(POST) as server:
        secret = shop.secret(value="wrong-" + CANARY)
        file = shop.write(FETCH, port=server.port, secret=secret)
        assert shop("run", file).status == 77
        done = at_a_terminal(shop, "run", file)
        assert done.status == 75
        assert re.search(
            r"source rests: red@127\.0\.0\.1 rests until \d\d:\d\d:\d\d after 1 failure, and"
            r" `--now` asks at once; the last failure: 127\.0\.0\.1:\d+ refuses the login of red",
            done.err,
        )
        assert shop("run", file) == (75, "", "")  # cron sends no mail
        assert "source rests" in shop("-v", "run", file).err
        assert server.connections == 1


def test_mail_that_waits_for_its_next_try_is_counted(shop: Shop) -> None:
    file = shop.write(HOOK)
    (shop.home / "Maildir").write_text("in the way")
    assert shop("hook", file, stdin=MAIL).status == 0
    done = at_a_terminal(shop, "run", file)
    assert done.status == 0
    assert re.search(
        r"mail waits: 1 to be tried again, from \d\d:\d\d:\d\d on, or at once by `--now`", done.err
    )
    assert shop("run", file) == (0, "", "")
    (shop.home / "Maildir").unlink()
    assert "mail waits" not in at_a_terminal(shop, "run", "--now", file).err


def test_a_mailbox_that_another_run_is_at_work_on_is_told(shop: Shop) -> None:
    with pop3(POST) as server:
        server.faults = Faults(stall_at=200)
        file = shop.write(FETCH, port=server.port, secret=shop.secret())
        child = shop.start("run", file)
        await_(lambda: server.connections)
        done = at_a_terminal(shop, "run", "--now", file)
        child.kill()
        child.communicate()
    assert done.status == 0
    assert "another run is at work on this mailbox" in done.err


def test_a_line_of_the_log_takes_the_place_of_the_progress(shop: Shop) -> None:
    with pop3(POST) as server:
        server.faults = Faults(stall_at=200)
        text = FETCH.replace("keep", 'timeout = "1s"\nkeep')
        file = shop.write(text, port=server.port, secret=shop.secret())
        ours, theirs = pty.openpty()
        child = shop.start("run", file, stderr=theirs)
        os.close(theirs)
        shop.end(child)
    said = os.read(ours, 65536)
    os.close(ours)
    drawn, _, line = said.partition(b"fetch failed")
    assert line
    assert b"0 messages, 0 B" in drawn
    assert re.search(rb"\r\x1b\[K(\x1b\[[0-9;]*m)*\d{4}-[^\r]*$", drawn)
