"""What `mailflow check --connect` says of a POP3 server."""

from __future__ import annotations

import pytest

from mailflow.errors import LoginError
from mailflow.options import SecretValue
from mailflow.testing.pop3 import CAPABILITIES, Pop3Server
from mailflow.testing.tls import Authority

from .conftest import SECRET

POSTS = [b"Subject: 1\r\n\r\none\r\n", b"Subject: 2\r\n\r\n"]


def offered(fetcher_of, server, **options):
    with fetcher_of(server, **options) as fetcher:
        return list(fetcher.offers())


def serve(**options):
    return Pop3Server({"red": SECRET}, {"red": POSTS}, **options)


def test_everything_worth_knowing_is_a_line(fetcher_of):
    with serve(capabilities=("TOP", "UIDL", "PIPELINING", "SASL PLAIN LOGIN")) as server:
        assert offered(fetcher_of, server) == [
            f"127.0.0.1:{server.port} offers: TOP, UIDL, PIPELINING, SASL PLAIN LOGIN",
            "TLS: none",
            "logged in by: plain; commands are sent ahead",
            "mailbox: 2 messages, 33 octets",
            "keys: UIDL",
        ]


def test_nothing_is_read_or_changed(fetcher_of):
    with serve() as server:
        offered(fetcher_of, server)
        assert server.messages("red") == POSTS
        assert server.commands[:4] == ["CAPA", "AUTH ***", "UIDL", "LIST"]
        assert set(server.commands[4:]) <= {"QUIT"}


def test_the_version_of_tls_and_the_names_of_the_certificate(fetcher_of, tmp_path):
    authority = Authority(tmp_path)
    with serve(tls=authority.issue(["localhost", "pop.example.org"]), implicit=True) as server:
        options = {"host": "localhost", "tls": "implicit", "ca_file": authority.ca_file}
        line = offered(fetcher_of, server, **options)[1]
    assert line.startswith("TLS: TLSv1.3, certificate of localhost, pop.example.org until ")
    assert line.endswith(" GMT")


@pytest.mark.parametrize(
    ("capabilities", "lines"),
    [
        (None, ["offers: nothing that it tells (no CAPA)", "each command waits"]),
        ([*CAPABILITIES, "EXPIRE 0"], ["EXPIRE 0: it may delete what was read"]),
        (["TOP"], ["keys: no UIDL; messages are known by their headers"]),
    ],
)
def test_what_a_server_lacks_is_told(fetcher_of, capabilities, lines):
    with serve(capabilities=capabilities) as server:
        said = "\n".join(offered(fetcher_of, server))
    for line in lines:
        assert line in said


def test_a_refused_log_in_is_an_error(fetcher_of):
    with serve() as server, pytest.raises(LoginError):
        offered(fetcher_of, server, password=SecretValue(lambda: "wrong", "the test"))
