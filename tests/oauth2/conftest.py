"""A provider of our own, and users who say yes."""

from __future__ import annotations

import threading
import time
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from mailflow.oauth2 import Access, access
from mailflow.oauth2.flows import log_in
from mailflow.oauth2.store import Store
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.oauth2 import OAuth2Server

ANN = "ann@example.org"


class User:
    """Talks as a user does: opens the browser, or takes its last address along."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.pages: list[str] = []
        self.on_say = lambda line: None
        self.address = ""

    def say(self, line: str) -> None:
        self.said.append(line)
        self.on_say(line)

    def browse(self, url: str) -> None:
        self.thread = threading.Thread(target=self._browse, args=(url,))
        self.thread.start()

    def _browse(self, url: str) -> None:
        with urlopen(url) as page:
            self.pages.append(page.read().decode())

    def ask(self, question: str) -> str:
        return self.address or last_address(self.said[-2].rpartition("\n")[2])


def last_address(url: str) -> str:
    """Where a browser ends that is sent there, and finds nobody."""
    from urllib.request import HTTPRedirectHandler, build_opener

    class Stay(HTTPRedirectHandler):
        def redirect_request(self, *words):
            return None

    try:
        build_opener(Stay()).open(url)
    except HTTPError as answer:
        return answer.headers["Location"]
    raise AssertionError("no redirect")


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Tokens and providers of this test alone."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "mailflow" / "providers"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def server():
    with OAuth2Server() as running:
        yield running


@pytest.fixture
def user():
    return User()


@pytest.fixture
def mine(server, places):
    """Makes an Access to the server, with more keys if given."""
    (places / "mine.toml").write_text('token_endpoint = "http://127.0.0.1:1/token"\n')

    def make(**more: object) -> Access:
        return access({"provider": "mine", **server.provider(), **more}, ".")

    return make


@pytest.fixture
def logged_in(mine, user):
    """An Access that Ann has said yes to."""

    def make(**more: object) -> Access:
        found = mine(**more)
        log_in(found, ANN, user)
        return found

    return make


@pytest.fixture
def token(logged_in):
    """Ann's token."""
    return logged_in().token(ANN)


def change(**fields: object) -> None:
    """What is kept of Ann, changed as time would."""
    store = Store("mine", ANN)
    with store.locked():
        store.save(store.load()._replace(**fields))


def end() -> None:
    """Her access token has ended."""
    change(expires=time.time() - 1)


# A provider that real servers ask about tokens, under the name of `home`


@pytest.fixture(scope="module")
def authority():
    with OAuth2Server() as running:
        yield running


@pytest.fixture(scope="module")
def dovecot(authority, tmp_path_factory):
    """Ann has a mailbox there, and logs in by tokens."""
    where = tmp_path_factory.mktemp("dovecot")
    with Dovecot(where, imap=True, introspection=authority.introspection) as running:
        running.add_user(ANN, "not this one")
        yield running


@pytest.fixture
def oauth2(authority, places):
    """What a file says; Ann has logged in."""
    (places / "home.toml").write_text("")
    authority.requests.clear()
    authority.user = ANN
    table = {"provider": "home", **authority.provider()}
    log_in(access(table, "."), ANN, User())
    return table


def expire(authority) -> None:
    """The token that is kept is not good any more, and looks as if it were."""
    authority.end_access()
    store = Store("home", ANN)
    with store.locked():
        store.save(store.load()._replace(obtained=time.time() - 3000, expires=time.time() + 900))
