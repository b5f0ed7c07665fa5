"""Clients of POP3 read what lies at a real webmail through a real `mailflow serve`: live, through
the spool, and both beside accounts that another kind of server has."""

from __future__ import annotations

import itertools
import poplib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.testing.dovecot import Dovecot
from mailflow.testing.proxy import Proxy
from mailflow.testing.roundcube import Roundcube
from mailflow.testing.serving import Serving, free_ports

from .readers import (
    MESSAGES,
    PASSWORD,
    PLAIN,
    WANTED,
    Door,
    Fetchmail,
    Poplib,
    Reader,
    reads_leaves_and_deletes,
)

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.interop("dovecot-imapd", "dovecot-pop3d", "roundcube-core", "php-cli"),
]

PIPELINE = """
[[fetch]]
name = "page"
use = "webmail"
site = "roundcube"
url = "{url}"
user = "cached"
password = "{password}"
every = "1h"
auto = "no"

[[fetch]]
name = "post"
use = "pop3"
host = "127.0.0.1"
port = {pop3}
tls = "none"
user = "merged"
password = "{password}"
every = "1h"
auto = "no"

[[distribute]]
use = "spool"
drop = "home"

[maildrop.home]                       # through the spool: two sources, merged into one drop
use = "spool"
secret = "{password}"

[maildrop.nobody]                     # not reachable: it has no password
use = "spool"
passwords = "none"

[maildrop."web*"]                     # live, on the page
use = "webmail"
site = "roundcube"
url = "{url}"
login = "passthrough"

[maildrop."post*"]                    # live, on another server
use = "pop3"
host = "127.0.0.1"
port = {pop3}
tls = "none"
login = "passthrough"

[maildrop."*@example.org"]            # live, where domains.toml says
use = "webmail"
allow = ["example.org"]
login = "passthrough"

[[serve]]
use = "pop3"
listen = ["127.0.0.1:{port}"]
"""

DOMAINS = """
["example.org"]
site = "roundcube"
url = "{url}"
user = "{{user}}"
"""

_NUMBERS = itertools.count(1)


class Hall:
    """Dovecot with Roundcube before it, and a server of POP3 before both."""

    def __init__(self, home: Path, dovecot: Dovecot, webmail: Proxy) -> None:
        (self.port,) = free_ports(1)
        self.dovecot = dovecot
        self.webmail = webmail
        url = f"http://{webmail.host}:{webmail.port}/"
        words = {"url": url, "password": PASSWORD, "pop3": dovecot.pop3_port}
        settings = home / ".config" / "mailflow"
        settings.mkdir(parents=True)
        (settings / "domains.toml").write_text(DOMAINS.format(**words))
        (home / "none").touch(0o600)
        file = home / "live.toml"
        file.write_text(PIPELINE.format(port=self.port, **words))
        file.chmod(0o600)
        self.serving = Serving(file)

    def door(self, prefix: str, domain: str = "") -> Door:
        """That of somebody new, with mail there."""
        user = f"{prefix}{next(_NUMBERS)}"
        self.dovecot.add_user(user, PASSWORD)
        self.dovecot.deliver(user, *MESSAGES)
        return Door(PLAIN, self.port, "", user=f"{user}{domain}")

    def log_in(self, user: str, password: str = PASSWORD) -> poplib.POP3:
        client = poplib.POP3("127.0.0.1", self.port, timeout=20)
        client.user(user)
        client.pass_(password)
        return client

    def refusal(self, user: str, password: str = PASSWORD) -> bytes:
        with pytest.raises(poplib.error_proto) as caught:
            self.log_in(user, password)
        answer: bytes = caught.value.args[0]
        return answer


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory, roundcube: Roundcube) -> Iterator[Hall]:
    with Proxy((roundcube.host, roundcube.port)) as webmail:
        hall = Hall(tmp_path_factory.mktemp("hall"), roundcube.dovecot, webmail)
        with hall.serving:
            yield hall


@pytest.mark.parametrize(
    "kind",
    [pytest.param(each, marks=pytest.mark.interop(*each.packages), id=each.__name__.lower())
     for each in (Fetchmail, Poplib)],
)  # fmt: skip
def test_pwm_02_a_client_of_pop3_reads_leaves_and_deletes_at_a_webmail(
    hall: Hall, tmp_path: Path, kind: type[Reader]
) -> None:
    door = hall.door("web")
    reads_leaves_and_deletes(kind, door, tmp_path, there=lambda: hall.dovecot.messages(door.user))


def test_pwm_11_an_address_is_read_at_the_webmail_of_its_domain(hall: Hall, tmp_path: Path) -> None:
    door = hall.door("any", "@example.org")
    reader = Poplib(tmp_path / "one")
    assert reader.read(door, keep=True) == 0, reader.said
    assert sorted(reader.brought()) == WANTED, reader.said
    assert hall.refusal("any1@example.com").startswith(b"-ERR [AUTH]")


def test_pwm_16_each_kind_of_back_end_is_told_by_what_the_account_says(hall: Hall) -> None:
    """web, pop3, merge and none; smtp is a pipeline's way out, and no way in."""
    for prefix in ("web", "post"):
        door = hall.door(prefix)
        client = hall.log_in(door.user)
        assert client.stat()[0] == len(MESSAGES)
        client.quit()
    assert hall.refusal("nobody").startswith(b"-ERR [AUTH]")


@pytest.mark.interop("fetchmail")
def test_pwm_10_through_the_spool_mail_is_read_while_the_webmail_is_away(
    hall: Hall, tmp_path: Path
) -> None:
    """And directly it is not: what is cached needs nobody, what is live needs the page."""
    for user in ("cached", "merged"):
        hall.dovecot.add_user(user, PASSWORD)
    hall.dovecot.deliver("cached", *MESSAGES[:3])
    hall.dovecot.deliver("merged", *MESSAGES[3:])
    live = hall.door("web")
    for source in ("page", "post"):
        assert hall.serving.command("poke", source).returncode == 0
    awaited(hall, "home", len(MESSAGES))
    page, hall.webmail.target = hall.webmail.target, ("127.0.0.1", 1)
    hall.webmail.drop()
    try:
        assert hall.refusal(live.user).startswith(b"-ERR [SYS/TEMP]")
        for kind in (Poplib, Fetchmail):
            reader = kind(tmp_path / kind.__name__)
            door = Door(PLAIN, hall.port, "", user="home")
            assert reader.read(door, keep=kind is Poplib) == 0, reader.said
            assert sorted(reader.brought()) == WANTED, reader.said
            reader.close()
    finally:
        hall.webmail.target = page
    client = hall.log_in(live.user)
    assert client.stat()[0] == len(MESSAGES), "a failure there was no empty mailbox here"
    client.quit()


def awaited(hall: Hall, user: str, number: int) -> None:
    """What was poked for is there."""
    until = time.monotonic() + 60
    while True:
        client = hall.log_in(user)
        there = client.stat()[0]
        client.quit()
        if there == number:
            return
        assert time.monotonic() < until, hall.serving.said
        time.sleep(0.05)
