"""The real webmails that other tests read: each in a place of its own, of which nothing is left."""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.testing.dovecot import Dovecot
from mailflow.testing.http_way import HttpWay
from mailflow.testing.roundcube import Front, Roundcube
from mailflow.testing.sqwebmail import SqWebMail

at_roundcube = pytest.mark.interop(
    "dovecot-imapd", "php-cli", "php8.2-cgi", "roundcube-core", "roundcube-sqlite3", "lighttpd"
)


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("dovecot"), imap=True) as running:
        yield running


def page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read(), "utf-8")


def alive(group: int) -> bool:
    """Whether a process of the group still runs, one that waits for its parent aside."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, leader = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue  # it has ended since
        if int(leader) == group and state != "Z":
            return True
    return False


def gone(*groups: int) -> bool:
    """Whether they end within a while, having been told to."""
    deadline = time.monotonic() + 20
    while any(map(alive, groups)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)  # nothing tells when somebody else's child has ended
    return True


@at_roundcube
@pytest.mark.parametrize("front", ["php", "lighttpd"])
def test_roundcube_draws_pages_until_it_is_stopped(dovecot: Dovecot, front: Front) -> None:
    with Roundcube(dovecot, front=front) as webmail:
        assert 'name="_pass"' in page(webmail.url)
        group, url = webmail.pid, webmail.url
    assert gone(group)
    with pytest.raises(urllib.error.URLError):
        page(url)


@at_roundcube
def test_lighttpd_keeps_connections_to_roundcube(dovecot: Dovecot) -> None:
    with Roundcube(dovecot, front="lighttpd") as webmail:
        connection = http.client.HTTPConnection("127.0.0.1", webmail.port, timeout=20)
        for _ in range(3):
            connection.request("GET", "/?_task=login")
            assert connection.getresponse().read()
            assert connection.sock is not None
        connection.close()


@at_roundcube
def test_options_of_roundcube_count_from_the_next_request(dovecot: Dovecot) -> None:
    with Roundcube(dovecot) as webmail:
        for skin in ("larry", "classic", "elastic"):
            with webmail.configured(skin=f"'{skin}'"):
                assert f"skins/{skin}" in page(webmail.url)
        with webmail.configured(skin="'larry'"):
            pass
        assert "skins/elastic" in page(webmail.url)
        assert [each for each in webmail.requests() if "GET" in each] == ["GET /"] * 4


@pytest.mark.interop("sqwebmail", "courier-authlib-userdb", "lighttpd")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start SqWebMail")
def test_sqwebmail_runs_beside_another_and_leaves_the_system_alone(tmp_path: Path) -> None:
    before = sorted(os.listdir("/etc/courier"))
    with SqWebMail(tmp_path / "a") as one, SqWebMail(tmp_path / "b") as other:
        for webmail in (one, other):
            webmail.add_user("ann", "secret")
            assert 'name="logon"' in page(f"{webmail.url}?noframes=1")
        groups = [one.pid, other.pid]
    assert gone(*groups)
    assert sorted(os.listdir("/etc/courier")) == before


@pytest.mark.interop("sqwebmail", "courier-authlib-userdb", "lighttpd")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start SqWebMail")
def test_parts_of_sqwebmail_end_and_begin_by_themselves(tmp_path: Path) -> None:
    with SqWebMail(tmp_path) as webmail:
        webmail.down("sqwebmaild")
        assert "System unavailable" in page(f"{webmail.url}?noframes=1")
        webmail.up("sqwebmaild")
        assert 'name="logon"' in page(f"{webmail.url}?noframes=1")


@at_roundcube
def test_a_way_tells_of_requests_changes_pages_and_cuts(dovecot: Dovecot) -> None:
    with Roundcube(dovecot) as webmail, HttpWay(webmail.url) as way:
        asked: list[str] = []
        way.before = lambda method, path: asked.append(f"{method} {path}")
        way.rewrite = lambda path, body: body.replace(b'name="_pass"', b'name="other"')
        assert 'name="_pass"' not in page(way.url)
        assert asked == way.requests == ["GET /"]

        def cut(method: str, path: str) -> None:
            raise ConnectionResetError

        way.before = cut
        with pytest.raises(ConnectionError):
            page(way.url)
        way.clear()
        assert 'name="_pass"' in page(way.url)
