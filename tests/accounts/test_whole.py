"""Accounts through `mailflow serve`: what changes while it runs, and what POP3 clients meet."""

from __future__ import annotations

import poplib
import re
import socket
import ssl
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailflow.accounts.verifiers import app_verifier, argon2_verifier, scram_verifier
from mailflow.testing.serving import Serving, free_ports
from mailflow.testing.tls import Authority

DROPS = """
[maildrop."*"]
use = "maildir"
path = "{home}/mail/{user}"
passwords = "{home}/passwords"

[maildrop.monitor]
use = "pop3.probe"
secret = "{own}"

[[serve]]
use = "pop3"
listen = ["127.0.0.1:{port}"]
"""


@pytest.fixture
def house(tmp_path):
    """A home with Maildirs of ann and ben, who have the passwords one and two."""
    home = tmp_path / "house"
    home.mkdir(mode=0o700)
    for name in ("ann", "ben"):
        for part in ("cur", "new", "tmp"):
            (home / "mail" / name / part).mkdir(parents=True)
        (home / "mail" / name / "new" / "1.x").write_text(f"Subject: for {name}\n\nhello\n")
    write(home, f"ann:{app_verifier('one')}\nben:{argon2_verifier('two')}\n")
    return home


def write(home, text):
    (home / "passwords").write_text(text)
    (home / "passwords").chmod(0o600)


@contextmanager
def serving(home, more="", drops=DROPS):
    [port] = free_ports(1)
    file = home / "house.toml"
    text = drops.replace("{home}", str(home)).replace("{port}", str(port))
    file.write_text(text.replace("{own}", app_verifier("the probe's own")) + more)
    file.chmod(0o600)
    with Serving(file) as running:
        running.port = port
        yield running


class Elsewhere(poplib.POP3):
    """A client at an address of its own, so that it is not slowed down with another."""

    used = 0

    def _create_socket(self, timeout):
        Elsewhere.used += 1
        here = (f"127.0.1.{Elsewhere.used}", 0)
        return socket.create_connection((self.host, self.port), timeout, here)


def log_in(running, login, password):
    client = Elsewhere("127.0.0.1", running.port, timeout=20)
    client.user(login)
    client.pass_(password)
    return client


def refused(running, login, password):
    with pytest.raises(poplib.error_proto) as caught:
        log_in(running, login, password)
    return str(caught.value)


def subject(client):
    return client.retr(1)[1][0]


def test_p3s_27_each_client_sees_its_own_mail_at_the_same_time(house):
    with serving(house) as running:
        ann, ben = log_in(running, "ann", "one"), log_in(running, "ben", "two")
        assert subject(ann) == b"Subject: for ann"
        assert subject(ben) == b"Subject: for ben"
        ann.dele(1)
        ann.quit()
        assert ben.stat()[0] == 1
        ben.quit()
    assert not list((house / "mail/ann").glob("*/1.x*"))
    assert list((house / "mail/ben").glob("*/1.x*"))


def test_a_password_that_is_changed_counts_at_once_and_ends_no_session(house):
    with serving(house) as running:
        ann = log_in(running, "ann", "one")
        done = running.command(
            "maildrop", "add", "ann", "--replace", "--passwords", house / "passwords"
        )
        new = done.stdout.strip()
        ann.noop()
        ann.quit()
        assert "[AUTH]" in refused(running, "ann", "one")
        assert subject(log_in(running, "ann", new)) == b"Subject: for ann"
        running.command("maildrop", "remove", "ann", "--passwords", house / "passwords")
        assert "[AUTH]" in refused(running, "ann", new)


def test_g05_a_name_with_path_parts_gets_the_answer_of_a_wrong_password(house):
    with serving(house) as running:
        usual = refused(running, "ann", "wrong")
        for login in ("../ann", "{login}"):
            assert refused(running, login, "one") == usual
    assert sorted(each.name for each in (house / "mail").iterdir()) == ["ann", "ben"]


def test_g03_each_failure_is_told_with_its_address_and_without_the_password(house):
    with serving(house) as running:
        refused(running, "ann", "canary-1")
        refused(running, "nobody", "canary-2")
        last = Elsewhere.used
    lines = [line for line in running.said.splitlines() if "login failed" in line]
    assert [re.sub(r"^\S+ ", "", line) for line in lines] == [
        f"[warning] login failed from 127.0.1.{last - 1}: wrong password | login=ann",
        f"[warning] login failed from 127.0.1.{last}: no such login name | login=nobody",
    ]
    assert "canary" not in running.said


def test_p3s_14_a_monitoring_program_has_a_mailbox_with_a_secret_of_its_own(house):
    with serving(house) as running:
        probe = log_in(running, "monitor", "the probe's own")
        assert probe.stat()[0] == 1
        assert any(line.startswith(b"Message-ID: ") for line in probe.retr(1)[1])
        assert "[AUTH]" in refused(running, "monitor", "monitor")


def test_p3s_03_apop_is_in_the_greeting_only_where_every_secret_is_stored_plain(house):
    apop = 'auth = ["user", "plain", "apop"]\n'
    alone = DROPS.replace("{own}", "{PLAIN}plain")
    write(house, "ann:{PLAIN}one\nben:two\n")
    with serving(house, apop, alone) as running:
        client = poplib.POP3("127.0.0.1", running.port, timeout=20)
        assert re.search(rb"<[^<>@ ]+@[^<>@ ]+>$", client.getwelcome())
        client.apop("ann", "one")
        assert subject(client) == b"Subject: for ann"
    with serving(house, drops=alone) as running:
        assert b"<" not in poplib.POP3("127.0.0.1", running.port, timeout=20).getwelcome()
    write(house, f"ann:{{PLAIN}}one\nben:{app_verifier('two')}\n")
    with serving(house, apop, alone) as running:
        client = poplib.POP3("127.0.0.1", running.port, timeout=20)
        assert b"<" not in client.getwelcome()
        with pytest.raises(poplib.error_proto):
            client.apop("ann", "one")


def test_scram_is_offered_where_all_can_use_it(house):
    def offered(running):
        return poplib.POP3("127.0.0.1", running.port, timeout=20).capa().get("SASL")

    with serving(house) as running:
        assert offered(running) == ["PLAIN", "LOGIN"]
    write(house, f"ann:{scram_verifier('one')}\nben:{{PLAIN}}two\n")
    alone = DROPS.replace("{own}", "{PLAIN}plain")
    with serving(house, drops=alone) as running:
        assert offered(running) == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
        assert subject(log_in(running, "ann", "one")) == b"Subject: for ann"


@pytest.mark.interop("mpop")
@pytest.mark.parametrize("way", ["scram-sha-256", "apop", "plain", "login", "user"])
def test_a_client_with_a_library_of_its_own_logs_in_each_way(house, way):
    write(house, f"ann:{scram_verifier('one') if way.startswith('scram') else '{PLAIN}one'}\n")
    alone = DROPS.replace("{own}", "{PLAIN}plain")
    every = 'auth = ["user", "plain", "login", "scram-sha-256", "apop"]\n'

    def fetched(password):
        words = (
            "--host=127.0.0.1",
            f"--port={running.port}",
            "--tls=off",
            "--user=ann",
            f"--passwordeval=echo {password}",
            f"--auth={way}",
            "--half-quiet",
            f"--delivery=maildir,{house / 'mail' / 'ben'}",
            f"--uidls-file={house / 'uidls'}",
        )
        return subprocess.run(["mpop", *words], capture_output=True, text=True, timeout=60)

    with serving(house, every, alone) as running:
        wrong = fetched("two")
        assert wrong.returncode != 0, wrong
        assert "authentication failed" in wrong.stderr
        right = fetched("one")
        assert right.returncode == 0, right
    assert len(list((house / "mail/ben/new").iterdir())) == 2


def test_105_a_renewed_certificate_is_that_of_the_next_client_and_ends_no_session(house):
    (house / "ca").mkdir()
    authority = Authority(house / "ca")
    cert, key = house / "cert.pem", house / "key.pem"

    def renew():
        issued = authority.issue(days=20)
        for source, target in ((issued.key_file, key), (issued.cert_file, cert)):
            new = target.with_suffix(".new")
            new.write_bytes(Path(source).read_bytes())
            new.chmod(0o600)
            new.rename(target)

    def connect():
        trusts = ssl.create_default_context(cafile=authority.ca_file)
        client = poplib.POP3_SSL("127.0.0.1", running.port, timeout=20, context=trusts)
        client.user("ann")
        client.pass_("one")
        return client, client.sock.getpeercert()["serialNumber"]

    renew()
    with serving(house, f'certificate = "{cert}"\nkey = "{key}"\n') as running:
        before, first = connect()
        renew()
        before.noop()
        before.quit()
        after, second = connect()
        assert first != second
        assert subject(after) == b"Subject: for ann"
        after.quit()
