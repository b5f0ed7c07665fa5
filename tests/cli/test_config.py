"""`mailflow config show`: every value in force, and where it comes from."""

from __future__ import annotations

import json

from .command import CANARY, FETCH, Shop


def pipeline(shop: Shop, secret: str = '{ env = "X" }') -> str:
    return shop.write(FETCH.replace('use = "pop3"', 'use = "pop3"\naccount = "club"', 1)
                      + '[account.club]\nauth = ["user"]\n', port=7, secret=secret)  # fmt: skip


def defaults(shop: Shop, text: str) -> str:
    directory = shop.home / ".config" / "mailflow"
    directory.mkdir(parents=True)
    path = directory / "defaults.toml"
    path.write_text(text)
    return str(path)


def test_each_value_on_a_line(shop: Shop) -> None:
    done = shop("config", "show", pipeline(shop))
    assert (done.status, done.err) == (0, "")
    rows = [line.split(None, 2) for line in done.out.splitlines()]
    assert rows[0] == ["STEP", "KEY", "VALUE"]
    assert ["fetch.pop3", "port", "7"] in rows
    assert ["fetch.pop3", "auth", '["user"]'] in rows
    assert ["pipeline", "name", '"red"'] in rows
    assert not any("timeout" in row for row in rows)


def test_pwm08_origin_says_file_line_and_table(shop: Shop) -> None:
    there = defaults(shop, '[pipeline]\nhistory = "1d"\n[fetch.pop3]\ntimeout = "5s"\n')
    file = pipeline(shop)
    out = shop("config", "show", "--origin", file).out
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert f"fetch.pop3 port 7 {file}:9" in rows
    assert f'fetch.pop3 timeout "5s" {there}:4 [fetch.pop3]' in rows
    assert f'pipeline history "1d" {there}:2' in rows
    assert any(row.endswith("[account.club]") and "auth" in row for row in rows)


def test_all_shows_what_nobody_set(shop: Shop) -> None:
    out = shop("config", "show", "--all", "--origin", pipeline(shop)).out
    assert "fetch.pop3" in out
    assert any(
        line.split() == ["fetch.pop3", "timeout", '"1m"', "default"] for line in out.splitlines()
    )


def test_c02_a_password_in_the_file_is_not_shown(shop: Shop) -> None:
    file = pipeline(shop, f'"{CANARY}"')
    shop.path.chmod(0o600)
    done = shop("config", "show", "--all", file)
    assert "********" in done.out
    (row,) = [
        each for each in json.loads(shop("config", "show", "--json", file).out)
        if each["key"] == "password"
    ]  # fmt: skip
    assert row["value"] == "********"
    assert row["origin"].startswith(f"{file}:")


def test_c02_a_client_secret_in_the_file_is_not_shown(shop: Shop) -> None:
    said = f'{{ provider = "google", client_id = "mine", client_secret = "{CANARY}" }}'
    file = shop.write(
        f'[[fetch]]\nuse = "pop3"\nhost = "localhost"\nuser = "ann"\noauth2 = {said}\n'
        '[[distribute]]\nuse = "maildir"\npath = "Mail"\n'
    )
    shop.path.chmod(0o600)
    for words in ((), ("--json",)):
        out = shop("config", "show", *words, file).out
        assert CANARY not in out
        assert "mine" in out
        assert "********" in out


def test_pwm06_config_takes_the_place_of_all_defaults(shop: Shop) -> None:
    defaults(shop, '[fetch.pop3]\ntimeout = "5s"\n')
    other = shop.home / "other.toml"
    other.write_text('[fetch.pop3]\npipelining = "never"\n')
    done = shop("--config", str(other), "config", "show", "--origin", pipeline(shop))
    assert f"{other}:2" in done.out
    assert "5s" not in done.out
    assert shop("--config", "/none.toml", "config", "show", shop.file).status == 78


def test_a_wrong_file_is_78_as_for_check(shop: Shop) -> None:
    defaults(shop, '[fetch.pop3]\ntimeuot = "5s"\n')
    done = shop("config", "show", pipeline(shop))
    assert done.status == 78
    assert "defaults.toml:2: fetch.pop3.timeuot: unknown key; did you mean `timeout`?" in done.err
