"""A token that is good: kept, shared, renewed once, and never asked for in vain."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mailflow import ConfigError, LoginError, PeerError, UnavailableError, log
from mailflow.oauth2 import access, refresh
from mailflow.oauth2.flows import log_in
from mailflow.oauth2.store import Store, Tokens
from mailflow.testing.oauth2 import CLIENT, SECRET, Fault

from .conftest import ANN, change, end


def invalid(error="invalid_grant", **more):
    return Fault(400, json.dumps({"error": error, **more}))


def test_a_token_that_is_good_is_given_without_asking(token, server):
    assert token.reveal() == token.reveal() == server.tokens[0].access_token
    assert server.asked("refresh_token") == []


def test_a_token_that_ends_soon_is_renewed(token, server):
    now = time.time()
    change(obtained=now - 3000, expires=now + refresh.MARGIN - 5)
    assert token.reveal() == server.tokens[1].access_token
    assert len(server.asked("refresh_token")) == 1


def test_a_short_lived_token_is_used_for_most_of_its_life(logged_in, server):
    server.life = 100
    token = logged_in().token(ANN)
    now = time.time()
    change(obtained=now - 70, expires=now + 30)
    token.reveal()
    assert server.asked("refresh_token") == []
    change(obtained=now - 90, expires=now + 10)
    token.reveal()
    assert len(server.asked("refresh_token")) == 1


def test_the_time_that_a_provider_does_not_say_is_an_hour(token, server):
    change(obtained=time.time() - 3000, expires=0.0)
    token.reveal()
    assert server.asked("refresh_token") == []
    change(obtained=time.time() - 3700, expires=0.0)
    token.reveal()
    assert len(server.asked("refresh_token")) == 1


def test_a_token_from_the_future_is_not_trusted(token, server):
    change(obtained=time.time() + 1e6, expires=time.time() + 2e6)
    token.reveal()
    assert len(server.asked("refresh_token")) == 1


def test_a_rotated_refresh_token_is_kept_and_used_next(token, server):
    for _ in range(3):
        end()
        token.reveal()
    sent = [form["refresh_token"] for form in server.asked("refresh_token")]
    assert sent == [each.refresh_token for each in server.tokens[:3]]
    assert Store("mine", ANN).load().refresh_token == server.tokens[3].refresh_token


def test_a_refresh_token_stays_where_the_provider_gives_no_other(token, server):
    server.rotate = False
    first = server.tokens[0].refresh_token
    for _ in range(2):
        end()
        token.reveal()
    assert [form["refresh_token"] for form in server.asked("refresh_token")] == [first, first]
    assert Store("mine", ANN).load().refresh_token == first


def test_what_is_given_is_kept_before_it_is_used(token, server, monkeypatch):
    end()
    monkeypatch.setattr(
        Store, "save", lambda self, tokens: (_ for _ in ()).throw(UnavailableError("disk full"))
    )
    with pytest.raises(UnavailableError, match="disk full"):
        token.reveal()


def test_a_provider_is_not_asked_for_what_could_not_be_kept(token, server, monkeypatch):
    end()

    def full(descriptor, start, octets):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UnavailableError, match="No space left on device"):
        token.reveal()
    assert server.asked("refresh_token") == []


def test_threads_share_one_refresh(logged_in, server):
    work = logged_in()
    end()
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: work.token(ANN).reveal(), range(32)))
    assert found == {server.tokens[1].access_token}
    assert len(server.asked("refresh_token")) == 1


def _reveal(table: dict, gate, found) -> None:
    gate.wait()
    found.put(access({"provider": "mine", **table}, ".").token(ANN).reveal())


def test_processes_share_one_refresh(logged_in, server):
    logged_in()
    end()
    spawn = multiprocessing.get_context("fork")
    gate, found = spawn.Barrier(6), spawn.Queue()
    running = [
        spawn.Process(target=_reveal, args=(server.provider(), gate, found)) for _ in range(6)
    ]
    for each in running:
        each.start()
    given = {found.get(timeout=20) for _ in running}
    for each in running:
        each.join()
    assert given == {server.tokens[1].access_token}
    assert len(server.asked("refresh_token")) == 1


def test_a_consent_that_is_over_is_asked_about_once(token, server):
    server.withdraw()
    end()
    for _ in range(3):
        with pytest.raises(LoginError, match=rf"invalid_grant.*mailflow auth login mine/{ANN}"):
            token.reveal()
    assert len(server.asked("refresh_token")) == 1


def test_a_consent_that_is_over_is_known_to_other_processes(logged_in, mine, server):
    logged_in()
    server.withdraw()
    end()
    for _ in range(2):
        with pytest.raises(LoginError, match="invalid_grant"):
            mine().token(ANN).reveal()
    assert len(server.asked("refresh_token")) == 1


def test_a_new_login_ends_a_refusal(token, mine, server, user):
    server.withdraw()
    end()
    with pytest.raises(LoginError):
        token.reveal()
    log_in(mine(), ANN, user)
    assert token.reveal() == server.tokens[-1].access_token


def test_a_client_that_was_refused_is_tried_again_once_it_has_changed(logged_in, server):
    logged_in()
    end()
    wrong = {**server.provider(), "client_secret": "wrong"}
    for _ in range(2):
        with pytest.raises(LoginError, match="invalid_client"):
            access({"provider": "mine", **wrong}, ".").token(ANN).reveal()
    assert len(server.asked("refresh_token")) == 1
    right = access({"provider": "mine", **server.provider()}, ".").token(ANN)
    assert right.reveal() == server.tokens[-1].access_token


def test_c08_a_provider_that_fails_is_left_alone_for_a_while(token, server, monkeypatch):
    end()
    server.faults += [Fault(503), Fault(503)]
    for _ in range(3):
        with pytest.raises(UnavailableError, match="HTTP status 503"):
            token.reveal()
    assert len(server.asked("refresh_token")) == 1
    assert Store("mine", ANN).load().retry_at == pytest.approx(time.time() + 10, abs=5)
    change(retry_at=time.time() - 1)
    with pytest.raises(UnavailableError):
        token.reveal()
    assert Store("mine", ANN).load().retry_at == pytest.approx(time.time() + 20, abs=5)
    change(retry_at=time.time() - 1)
    assert token.reveal() == server.tokens[1].access_token
    assert Store("mine", ANN).load().failures == 0


@pytest.mark.parametrize(("said", "pause"), [("120", 120), ("86400", refresh.LONGEST_PAUSE)])
def test_a_provider_that_says_when_to_come_back_is_obeyed_for_a_while(token, server, said, pause):
    end()
    server.faults.append(Fault(429, "", {"Retry-After": said}))
    for _ in range(2):
        with pytest.raises(UnavailableError, match="HTTP status 429"):
            token.reveal()
    assert len(server.asked("refresh_token")) == 1
    assert Store("mine", ANN).load().retry_at == pytest.approx(time.time() + pause, abs=5)


def test_a_token_that_still_works_is_used_while_the_provider_fails(token, server):
    change(obtained=time.time() - 3000, expires=time.time() + 60)
    server.faults.append(Fault(500, "<html>"))
    assert token.reveal() == server.tokens[0].access_token
    assert token.reveal() == server.tokens[0].access_token
    assert len(server.asked("refresh_token")) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(200, "<html>Welcome to the hotel</html>"),
        Fault(200, "{}"),
        Fault(200, "[]"),
        Fault(200, '{"access_token": 7}'),
        Fault(302, "", {"Location": "http://127.0.0.1:1/elsewhere"}),
        Fault(403, "<html>no</html>"),
        Fault(200, "x" * (1 << 21)),
    ],
)
def test_what_is_no_answer_ends_no_consent(token, server, fault):
    end()
    server.faults.append(fault)
    with pytest.raises((UnavailableError, PeerError)) as caught:
        token.reveal()
    assert caught.value.temporary
    change(retry_at=0.0)
    assert token.reveal() == server.tokens[1].access_token


def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(logged_in, server):
    token = logged_in(timeout="100ms").token(ANN)
    end()
    server.faults.append(Fault(503, delay=1))
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1"):
        token.reveal()


def test_c08_a_provider_that_is_not_there_is_told_in_one_line(logged_in, server):
    logged_in()
    end()
    table = {**server.provider(), "token_endpoint": "http://127.0.0.1:1/token"}
    with pytest.raises(UnavailableError, match=r"cannot ask 127\.0\.0\.1:1: Connection refused"):
        access({"provider": "mine", **table}, ".").token(ANN).reveal()


def test_nobody_has_logged_in(mine, server):
    with pytest.raises(LoginError, match=f"nobody has logged in at mine as {ANN}; run: mailflow"):
        mine().token(ANN).reveal()
    assert server.requests == []


def test_a_login_by_another_client_does_not_count(logged_in, mine):
    logged_in()
    with pytest.raises(LoginError, match="by another client_id"):
        mine(client_id="other").token(ANN).reveal()


def test_a_provider_that_gave_no_refresh_token_is_told(token, server):
    change(refresh_token="", expires=time.time() - 1)
    with pytest.raises(LoginError, match="gave none to renew it"):
        token.reveal()


# A server that refuses a token


def test_a_token_that_a_server_refuses_is_renewed_once(token, server):
    change(obtained=time.time() - 3000, expires=time.time() + 600)
    tried = []

    def act(text):
        tried.append(text)
        if len(tried) == 1:
            raise LoginError("refused")
        return "in"

    assert token.use(act) == "in"
    assert tried == [each.access_token for each in server.tokens]


def test_a_fresh_token_that_a_server_refuses_is_not_renewed(token, server):
    tried = []

    def act(text):
        tried.append(text)
        raise LoginError("no such mailbox")

    with pytest.raises(LoginError, match="no such mailbox"):
        token.use(act)
    assert len(tried) == 1
    assert server.asked("refresh_token") == []


def test_a_refused_token_that_another_process_has_renewed_is_taken_from_there(token, server):
    old = token.reveal()
    end()
    token.reveal()
    assert token.renew(old) == server.tokens[1].access_token
    assert len(server.asked("refresh_token")) == 1


# The end of a consent


@pytest.mark.parametrize(
    ("keys", "told", "days"),
    [
        ({"consent": "7d"}, {}, 7),
        ({"idle": "90d"}, {}, 90),
        ({"consent": "30d", "idle": "5d"}, {}, 5),
        ({"idle": "90d"}, {"refresh_token_expires_in": 86400}, 1),
    ],
)
def test_the_end_of_a_consent_is_the_nearest_that_is_known(mine, keys, told, days):
    now = 1_000_000.0
    given = {"access_token": "a", "refresh_token": "r", **told}
    tokens = refresh.kept(Tokens(consented=now), given, now)
    assert refresh.consent_ends(mine(**keys).provider, tokens) == now + days * 86400


def test_a_consent_that_ends_soon_is_warned_of_once_a_day(logged_in, capsys, monkeypatch):
    monkeypatch.setattr(refresh, "_warned", {})
    token = logged_in(consent="7d").token(ANN)
    change(consented=time.time() - 6 * 86400, expires=1.0)
    for _ in range(2):
        token.reveal()
        end()
    said = capsys.readouterr().err
    assert said.count("the consent ends in 1.0 days; run: mailflow auth login") == 1


def test_a_consent_that_lasts_is_not_warned_of(logged_in, capsys, monkeypatch):
    monkeypatch.setattr(refresh, "_warned", {})
    token = logged_in(consent="7d").token(ANN)
    end()
    token.reveal()
    assert "consent" not in capsys.readouterr().err


# Secrets


def test_no_error_log_or_repr_holds_a_secret(token, server, capsys):
    log.configure(level="debug")
    try:
        store = Store("mine", ANN)
        secrets = [SECRET, token.reveal(), store.load().refresh_token]
        echo = f"bad {secrets[2]} and {secrets[0]}"
        end()
        server.faults.append(invalid(error_description=echo))
        with pytest.raises(LoginError) as caught:
            token.reveal()
        log.get_logger().warning(f"told {caught.value}", tokens=store.load())
    finally:
        log.configure()
    texts = [str(caught.value), repr(caught.value), repr(token), repr(store.load())]
    said = "\n".join([*texts, capsys.readouterr().err])
    assert [each for each in secrets if each in said] == []


def test_a_good_token_is_given_without_what_only_a_refresh_needs(logged_in, server):
    import subprocess

    logged_in()
    code = (
        "import sys; from mailflow.oauth2 import access\n"
        f"access({{'provider': 'mine', **{server.provider()!r}}}, '.').token({ANN!r}).reveal()\n"
        "print([n for n in ('oauthlib', 'urllib.request', 'http', 'ssl') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_check_says_what_a_token_lacks_without_asking(token, mine, server):
    token.check()
    with pytest.raises(LoginError, match="nobody has logged in"):
        mine().token("ben@example.org").check()
    assert server.asked("refresh_token") == []


def test_a_damaged_or_open_file_is_told(token):
    path = Store("mine", ANN).path
    os.chmod(path, 0o640)
    with pytest.raises(ConfigError, match=r"can be read by others \(mode 0640\); run: chmod 600"):
        token.reveal()
    os.chmod(path, 0o600)
    with open(path, "w") as file:
        file.write('{"provider": "mine"')
    with pytest.raises(ConfigError, match="is damaged; run: mailflow auth login"):
        token.reveal()


def test_the_client_is_named_to_the_provider(token, server):
    end()
    token.reveal()
    [form] = server.asked("refresh_token")
    assert (form["client_id"], form["client_secret"]) == (CLIENT, SECRET)
