"""What pymalist's users did, with the command: their pieces, their server, their cron."""

from __future__ import annotations

import os

import pytest

from mailflow.testing.pop3 import Pop3Server
from mailflow.testing.smtp import SmtpSink

from .command import CANARY, FETCH, HOOK, MAIL, Done, Shop, pop3

POST = MAIL.replace(b"\n", b"\r\n")

PLAIN = '''
import os
from mailflow import SENT, Discard, Envelope, Fetched, Item, Mail, Octets, Options, Report, hookimpl

class Plain:
    """Any class with the methods of its kind will do."""
    options = Options
    source, mark = "memory", ""
    pure, repeatable, per_recipient, sends = True, False, True, False

    def __init__(self, options, runtime): ...
    def __enter__(self): return self
    def __exit__(self, *error): ...

    def listing(self, where, mark=""): return [Item("1"), Item("2")]
    def heads(self, keys): return ()
    def retrieve(self, keys):
        for key in keys:
            octets = b"Subject: %s\\r\\n\\r\\n" % key.encode()
            yield Fetched(key, Octets(octets), Envelope("a@x", ("b@x",)))
    def settle(self, key, fate): ...

    def process(self, mail, context):
        if mail.header().get("Subject") == "2":
            raise ValueError("two")
        yield mail

    def distribute(self, mail, ticket):
        with open("sent", "a") as file:
            file.write(f"{mail.header().get('Subject')} to {ticket.recipients[0]}\\n")
        yield Report(ticket.recipients[0], SENT)

    def react(self, trouble, context):
        with open("trouble", "a") as file:
            file.write(f"{trouble.stage} {trouble.error}\\n")
        return Discard("told")

@hookimpl
def mailflow_register(register):
    register.fetcher(Plain)
    register.processor(Plain)
    register.distributor(Plain)
    register.reactor(Plain)
'''


def test_pml_10_plain_classes_and_one_register_make_a_pipeline(shop: Shop) -> None:
    shop.plugin("plain", PLAIN)
    kinds = ("fetch", "process", "distribute", "react")
    file = shop.write("".join(f'[[{kind}]]\nuse = "plain"\n' for kind in kinds))
    assert shop("run", file).status == 0
    assert (shop.home / "sent").read_text() == "1 to b@x\n"
    assert (shop.home / "trouble").read_text() == "process step plain: ValueError: two\n"


def test_pml_14_a_component_is_built_by_its_name_with_its_options(shop: Shop) -> None:
    file = shop.write(HOOK.replace("{home}/Maildir", "{home}/Elsewhere"))
    assert shop("hook", file, stdin=MAIL).status == 0
    assert len(list(shop.home.glob("Elsewhere/new/*"))) == 1
    done = shop("check", shop.write(HOOK.replace('"maildir"', '"mialdir"')))
    assert done.status == 78
    assert "did you mean `maildir`?" in done.err


def test_pml_21_without_a_step_mail_passes_through_as_it_is(shop: Shop) -> None:
    odd = b"Subject:  odd \n\tfolded\nX-8bit: caf\xe9\n\n.dots\n..\n\x00nul and no end of line"
    assert shop("hook", shop.write(HOOK), stdin=odd).status == 0
    assert shop.maildir == [odd]


def test_pml_26_trouble_is_a_line_on_stderr_with_its_kind_and_its_error(shop: Shop) -> None:
    file = shop.write(FETCH + '[[react]]\nuse = "react.log"\n', port=1, secret=shop.secret())
    done = shop("run", file)
    (line,) = [line for line in done.err.splitlines() if "stage=fetch" in line]
    assert "127.0.0.1" in line
    assert "refused" in line


TWICE = """
[[fetch]]
use = "pop3"
host = "127.0.0.1"
port = {port}
tls = "none"
user = "red"
password = {secret}
keep = "0d"
[[process]]
use = "list.post"
address = "Red <red@example.org>"
members = "{home}/members"
[[distribute]]
use = "smtp"
host = "127.0.0.1"
port = {smtp}
tls = "none"
"""


def test_pml_28_without_root_from_a_mailbox_that_is_a_member_of_its_own_list(shop: Shop) -> None:
    """A mailbox elsewhere in, a mail server elsewhere out; what is sent comes back to the
    mailbox, and is not sent again."""
    (shop.home / "members").write_text("ann@example.org\nred@example.org\n")
    post = POST.replace(b"bob@", b"red@")
    with SmtpSink() as sink, pop3(post) as server:
        file = shop.write(TWICE, port=server.port, smtp=sink.port, secret=shop.secret())
        assert powerless(shop, file).status == 0
        (sent,) = sink.messages
        assert sent.recipients == ("ann@example.org",)
        server.deliver("red", sent.data)
        assert powerless(shop, file).status == 0
        assert len(sink.messages) == 1
        assert server.messages("red") == []


def powerless(shop: Shop, file: str) -> Done:
    """A run without any of root's powers, whoever runs the tests."""
    drop = "setpriv --bounding-set=-all --inh-caps=-all " if os.geteuid() == 0 else ""
    return shop.shell(f"exec {drop}$mailflow run {file}")


class TestC04NothingIsFetched:
    """Whatever is wrong with the files, nothing is asked of a server before it is mended."""

    @pytest.fixture
    def server(self) -> Pop3Server:
        return Pop3Server({"red": CANARY}, {"red": [POST]})

    def test_c04_a_fault_in_one_file_of_two(self, shop: Shop, server: Pop3Server) -> None:
        other = shop.home / "blue.toml"
        other.write_text(HOOK.replace("{home}", str(shop.home)) + 'paht = "x"\n')
        with server:
            file = shop.write(FETCH, port=server.port, secret=shop.secret())
            done = shop("run", file, str(other))
            assert done.status == 78
            assert done.err.startswith(f"mailflow: {other}:7: distribute[1].paht: unknown key")
            assert server.connections == 0

    def test_c04_a_secret_that_is_not_in_the_environment(
        self, shop: Shop, server: Pop3Server
    ) -> None:
        with server:
            file = shop.write(FETCH, port=server.port, secret='{ env = "NOWHERE_SET" }')
            done = shop("run", file)
            assert done.status == 78
            assert "environment variable NOWHERE_SET is not set; export it" in done.err
            assert server.connections == 0
            assert "red.toml:11" in shop("check", file).err


def test_f28_two_runs_at_once_fetch_and_delete_each_message_once(shop: Shop) -> None:
    mails = [POST.replace(b"<1@", b"<%d@" % number) for number in range(40)]
    with pop3(*mails) as server:
        file = shop.write(FETCH, port=server.port, secret=shop.secret())
        runs = [shop.start("run", file) for _ in range(3)]
        ends = [shop.end(child) for child in runs]
        assert [(end.status, end.err) for end in ends] == [(0, "")] * 3
        assert server.messages("red") == []
    assert len(shop.maildir) == len(set(shop.maildir)) == 40
