"""`mailflow maildrop`: names get passwords, and lose them."""

from __future__ import annotations

import json
import os
import stat
import tomllib

from mailflow.accounts.verifiers import read

from .command import CANARY, Shop


def passwords(shop: Shop) -> str:
    return (shop.home / ".config/mailflow/maildrops").read_text()


def stored(shop: Shop, name: str) -> str:
    lines = dict(line.split(":", 1) for line in passwords(shop).splitlines())
    return lines[name]


def test_a_password_is_made_and_printed_once_and_kept_salted(shop: Shop) -> None:
    done = shop("maildrop", "add", "ann")
    password = done.out.removesuffix("\n")
    assert done.status == 0
    assert stored(shop, "ann").startswith("{SSHA256}")
    assert read(stored(shop, "ann")).fits(password)
    assert password not in done.err + passwords(shop)
    assert "[maildrop.ann]" in done.err
    path = shop.home / ".config/mailflow/maildrops"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_one_that_is_chosen_is_kept_as_argon2id_and_never_printed(shop: Shop) -> None:
    done = shop("maildrop", "add", "ann", "--chosen", stdin=f"{CANARY}\n".encode())
    assert (done.status, done.out) == (0, "")
    assert stored(shop, "ann").startswith("{ARGON2ID}$argon2id$")
    assert read(stored(shop, "ann")).fits(CANARY)


def test_it_can_be_kept_for_scram_or_for_apop(shop: Shop) -> None:
    made = shop("maildrop", "add", "ann", "--scram").out.strip()
    plain = shop("maildrop", "add", "bob", "--plain").out.strip()
    assert stored(shop, "ann").startswith("{SCRAM-SHA-256}4096,")
    assert read(stored(shop, "ann")).fits(made)
    assert stored(shop, "bob") == "{PLAIN}" + plain
    assert shop("maildrop", "add", "cat", "--scram", "--plain").status == 64


def test_a_name_that_is_there_keeps_its_password_unless_told_otherwise(shop: Shop) -> None:
    first = shop("maildrop", "add", "ann").out.strip()
    for more in ((), ("--dry-run",)):
        refused = shop("maildrop", "add", "ann", *more)
        assert (refused.status, refused.out) == (78, "")
        assert "ann is there already" in refused.err
        assert "--replace" in refused.err
    assert read(stored(shop, "ann")).fits(first)
    second = shop("maildrop", "add", "ann", "--replace").out.strip()
    assert read(stored(shop, "ann")).fits(second)


def test_the_table_that_it_speaks_of_can_be_copied(shop: Shop) -> None:
    for name in ("ann@example.org", 'a "b"', "\u00e4"):
        said = shop("maildrop", "add", name).err
        heading = said.partition("where a file has ")[2].rpartition("; kept in")[0]
        assert tomllib.loads(heading) == {"maildrop": {name: {}}}


def test_names_that_stand_for_many_or_are_none_are_refused(shop: Shop) -> None:
    for name in ("*", "*@example.org", "a:b", "#x", "a\nb"):
        done = shop("maildrop", "add", name)
        assert done.status == 64
        expected = "a password is for one" if "*" in name else "expected a login name: printable"
        assert f"Invalid value for NAME: {expected}" in done.err
    assert shop("maildrop", "add", "a:b", "--dry-run").status == 64
    assert not (shop.home / ".config/mailflow/maildrops").exists()


def test_an_empty_password_is_none(shop: Shop) -> None:
    for text in (b"", b"\n", b"a\x07b\n", b"\xff\n"):
        done = shop("maildrop", "add", "ann", "--chosen", stdin=text)
        assert done.status == 64, text


def test_a_dry_run_writes_nothing(shop: Shop) -> None:
    done = shop("maildrop", "add", "ann", "--dry-run")
    assert done.out.startswith("would give ann a password, in ")
    assert not (shop.home / ".config").exists()
    shop("maildrop", "add", "ann")
    before = passwords(shop)
    assert shop("maildrop", "remove", "ann", "--dry-run").out.startswith("would remove ann")
    assert passwords(shop) == before


def test_who_is_removed_has_no_password_any_more(shop: Shop) -> None:
    shop("maildrop", "add", "ann")
    shop("maildrop", "add", "bob")
    assert shop("maildrop", "remove", "ann").status == 0
    assert list(dict(line.split(":") for line in passwords(shop).splitlines())) == ["bob"]
    for more in ((), ("--dry-run",)):
        again = shop("maildrop", "remove", "ann", *more)
        assert (again.status, "there is no ann" in again.err) == (78, True)


def test_a_list_says_how_each_is_kept_and_shows_none(shop: Shop) -> None:
    path = shop.home / "passwords"
    path.write_text(f"ann:{{PLAIN}}{CANARY}\nbob:{CANARY}::::::allow_nets=::1\n"
                    f"cat:{{FOO}}{CANARY}\ndog:{{PLAIN}}x::::::nologin\nbroken\n")  # fmt: skip
    path.chmod(0o600)
    done = shop("maildrop", "list", "--passwords", str(path))
    rows = [line.split() for line in done.out.splitlines()]
    assert rows[:3] == [["LOGIN", "STORED", "FROM"], ["ann", "PLAIN"], ["bob", "PLAIN", "::1"]]
    assert rows[4] == ["dog", "PLAIN", "nowhere"]
    assert "{FOO} is no scheme that is known here" in done.out
    assert f"{path}:5: is not login:secret" in done.err
    found = json.loads(shop("maildrop", "list", "--passwords", str(path), "--json").out)
    assert found[1] == {
        "login": "bob", "stored": "PLAIN", "networks": ["::1"], "closed": False, "line": 2,
    }  # fmt: skip


def test_without_a_file_there_is_nobody(shop: Shop) -> None:
    assert shop("maildrop", "list", "--json").out == "[]\n"
    assert shop("maildrop", "list", "--passwords", str(shop.home / "none")).status == 78


def test_hash_prints_what_a_secret_may_be(shop: Shop) -> None:
    for more, begin in ((), "{ARGON2ID}"), (("--app",), "{SSHA256}"), (("--scram",), "{SCRAM"):
        done = shop("maildrop", "hash", *more, stdin=f"{CANARY}\n".encode())
        assert done.out.startswith(begin)
        assert read(done.out.strip()).fits(CANARY)


def test_on_a_terminal_a_chosen_password_is_asked_for_twice_and_not_shown(shop: Shop) -> None:
    import pty

    master, slave = pty.openpty()
    child = shop.start("maildrop", "add", "ann", "--chosen", stdin=slave, stderr=slave,
                       start_new_session=True)  # fmt: skip
    os.close(slave)
    shown = b""
    for asked in (1, 2):
        while shown.count(b": ") < asked:
            shown += os.read(master, 1024)
        os.write(master, CANARY.encode() + b"\n")
    shop.end(child)
    os.close(master)
    assert shown.startswith(b"Password: ")
    assert CANARY.encode() not in shown
    assert read(stored(shop, "ann")).fits(CANARY)
