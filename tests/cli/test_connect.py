"""`mailflow check --connect`: what each server offers, or why it cannot be used."""

from __future__ import annotations

import socket

import pytest

from mailflow.engine import connect
from mailflow.engine.config import load, load_dict
from mailflow.engine.registry import Registry
from mailflow.errors import UnavailableError
from mailflow.testing.smtp import SmtpSink
from mailflow.testing.webmail import TestBed

from .command import CANARY, FETCH, HOOK, MAIL, Shop, pop3

PIGEON = '''
from mailflow import hookimpl, Options, LoginError
from mailflow.options import Text

class PigeonOptions(Options):
    says = Text("What it says.")

class Pigeon:
    """Carries mail."""
    options = PigeonOptions
    repeatable = per_recipient = sends = False
    def __init__(self, options, runtime):
        self.says = options.says
        self.runtime = runtime
    def __enter__(self):
        open("entered", "w").close()
        return self
    def __exit__(self, *error):
        open("left", "w").close()
    def distribute(self, mail, ticket): return ()
    def offers(self):
        if self.says == "sleep":
            self.runtime.halt.wait(60)
            self.runtime.halt.check()
        if self.says == "no":
            raise LoginError("loft.example.org does not know us")
        yield "room for 20 \\x1b[31mpigeons"
        if self.says == "ill":
            raise LoginError("the pigeon is ill")
        yield self.says

@hookimpl
def mailflow_register(register):
    register.distributor(Pigeon)
'''


def pigeon(says: str) -> str:
    return f'[[distribute]]\nname = "{says}"\nuse = "pigeon"\nsays = "{says}"\n'


def test_each_fact_is_a_line(shop: Shop) -> None:
    shop.plugin("pigeon", PIGEON)
    done = shop("check", "--connect", shop.write(HOOK + pigeon("corn")))
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[-2:] == [
        "  distribute  corn: room for 20 \\x1b[31mpigeons",
        "  distribute  corn: corn",
    ]
    assert (shop.home / "left").exists()
    assert not shop.journal.exists()


def test_nobody_is_asked_without_it(shop: Shop) -> None:
    shop.plugin("pigeon", PIGEON)
    assert shop("check", shop.write(HOOK + pigeon("corn"))).status == 0
    assert not (shop.home / "entered").exists()


def test_one_that_cannot_be_used_is_the_status_and_hides_no_other(shop: Shop) -> None:
    shop.plugin("pigeon", PIGEON)
    done = shop("check", "--connect", shop.write(HOOK + pigeon("no") + pigeon("corn")))
    assert done.status == 77
    assert done.err == "  distribute  no cannot be used: loft.example.org does not know us\n"
    assert "corn: corn" in done.out


def test_what_it_said_before_it_failed_is_shown(shop: Shop) -> None:
    shop.plugin("pigeon", PIGEON)
    done = shop("check", "--connect", shop.write(HOOK + pigeon("ill")))
    assert done.status == 77
    assert done.out.splitlines()[-1] == "  distribute  ill: room for 20 \\x1b[31mpigeons"
    assert done.err == "  distribute  ill cannot be used: the pigeon is ill\n"


def test_one_that_does_not_answer_is_not_waited_for(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.plugin("slowpoke", PIGEON)  # loaded in this process, where others have a pigeon
    monkeypatch.syspath_prepend(shop.site)
    monkeypatch.chdir(shop.home)
    pipeline = load_dict({
        "fetch": [{"use": "stdin"}], "distribute": [{"use": "slowpoke", "says": "sleep"}],
    })  # fmt: skip
    ((_, step),) = connect.servers(pipeline)
    with pytest.raises(UnavailableError, match=r"no answer within 0\.1 s"):
        connect.ask(pipeline, step, [], longest=0.1)


def test_one_that_keeps_silent_is_named_and_the_reason_guessed(shop: Shop) -> None:
    """A port for TLS from the first octet waits for our first word, and we for its."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        shop.write(SMTP.replace('"none"', '"starttls"'), port=port)
        (pipeline,) = load([shop.file], Registry())
        ((_, step),) = connect.servers(pipeline)
        with pytest.raises(UnavailableError, match=rf"127\.0\.0\.1:{port} .* tls = \"implicit\"$"):
            connect.ask(pipeline, step, [], longest=3.0)


SMTP = """
[[fetch]]
use = "stdin"
[[distribute]]
use = "smtp"
host = "127.0.0.1"
port = {port}
tls = "none"
"""


def test_our_own_components_ask_their_servers_and_change_nothing(shop: Shop) -> None:
    with pop3(MAIL.replace(b"\n", b"\r\n")) as server, SmtpSink() as sink:
        first = shop("check", "--connect", shop.write(SMTP, port=sink.port))
        file = shop.write(FETCH, port=server.port, secret=shop.secret())
        second = shop("check", "--connect", file)
        assert (first.status, second.status, first.err + second.err) == (0, 0, "")
        assert "  distribute  smtp: " in first.out
        assert sink.messages == []
        assert len(server.messages("red")) == 1


def test_a_server_that_is_down_is_75(shop: Shop) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        done = shop("check", "--connect", shop.write(SMTP, port=nobody.getsockname()[1]))
    assert done.status == 75
    assert "smtp cannot be used: " in done.err


LIVE = """
[maildrop.red]
use = "pop3"
host = "127.0.0.1"
port = {port}
tls = "none"
user = "red"
password = {secret}
secret = {secret}

[maildrop."*@example.org"]
use = "pop3"
host = "192.0.2.1"
login = "passthrough"

[maildrop."green-*"]
use = "pop3"
host = "192.0.2.1"
password = {secret}
secret = {secret}

[[serve]]
use = "pop3"
listen = ["127.0.0.1:0"]
"""


def test_a_live_maildrop_is_entered_with_what_the_file_has(shop: Shop) -> None:
    with pop3(MAIL.replace(b"\n", b"\r\n")) as server:
        file = shop.write(LIVE, port=server.port, secret=shop.secret())
        done = shop("check", "--connect", file)
        assert (done.status, "cannot" in done.err) == (0, False)
        assert "  maildrop    red: can be entered; it has 1 message\n" in done.out
        assert done.out.endswith(
            "  maildrop    *@example.org: not entered: only a client has its password\n"
            "  maildrop    green-*: not entered: its name stands for many\n"
        )
        assert len(server.messages("red")) == 1
        shop.secret(value="canary-3x7q-wrong")
        done = shop("check", "--connect", file)
    assert done.status == 77
    assert "  maildrop    red cannot be used: " in done.err


def test_a_maildrop_at_a_webmail_is_counted_and_nothing_loaded(shop: Shop) -> None:
    """A session would load what nobody has measured."""
    with TestBed(["INBOX"], password=CANARY) as bed:
        bed.put("INBOX", MAIL, MAIL)
        place = f'use = "webmail"\nsite = "testbed"\nurl = "{bed.url}"\nuser = "{bed.user}"'
        table = f"[maildrop.red]\n{place}\npassword = {{secret}}\nsecret = {{secret}}\n"
        service = '[[serve]]\nuse = "pop3"\nlisten = ["127.0.0.1:0"]\n'
        done = shop("check", "--connect", shop.write(table + service, secret=shop.secret()))
        assert (done.status, done.err) == (0, "")
        assert "  maildrop    red: can be entered; it has 2 messages\n" in done.out
        assert bed.asked("source") == 0
