"""Where secrets come from, and what is said where one cannot be had: never the secret."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, NoKeyringError

from mailflow import log, secrets
from mailflow.errors import ConfigError, MailflowError, UnavailableError
from mailflow.log import MASK, RECENT, mask
from mailflow.options import SecretValue
from mailflow.secrets import COMMAND_FRESH, child_environment, secret


def refused(value: object, base: str = ".") -> str:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  # the text is the point
        secret(value, base)
    return str(raised.value)


def fault(found: SecretValue, kind: type[MailflowError] = ConfigError) -> str:
    with pytest.raises(kind) as raised:
        found.reveal()
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


FORM = 'expected a secret such as { file = "~/.config/mailflow/x.secret" }'


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (5, f"{FORM}, with one of file, env, command, netrc, keyring"),
        ({}, f"{FORM}, with one of file, env, command, netrc, keyring"),
        ({"file": "a", "env": "B"}, f"{FORM}, with one of file, env, command, netrc, keyring"),
        ("", FORM),
        ("two\nlines", FORM),
        ({"fil": "x"}, "no secret comes from 'fil'; did you mean `file`?"),
        (
            {"vault": "x"},
            "no secret comes from 'vault'; there are file, env, command, netrc, keyring",
        ),
        ({"keyring": "x"}, 'expected a service and a user, such as "pop.example.org/ann"'),
        ({"file": 5}, "expected a path"),
        ({"env": ""}, "expected the name of an environment variable"),
        ({"env": "A=B"}, "expected the name of an environment variable"),
        ({"netrc": True}, "expected the machine's name in ~/.netrc"),
        ({"command": []}, 'expected a command such as ["pass", "show", "mail"]'),
        ({"command": ["a", 5]}, 'expected a command such as ["pass", "show", "mail"]'),
        (
            {"command": "pass 'show"},
            'expected a command such as ["pass", "show", "mail"]; a quote is not closed',
        ),
    ],
)
def test_a_wrong_form_is_told(value: object, said: str) -> None:
    assert refused(value) == said


class TestALiteral:
    def test_is_the_secret_and_says_so(self) -> None:
        found = secret("hunter2", ".")
        assert found.reveal() == "hunter2"
        assert found.literal
        found.check()

    def test_c02_is_never_shown(self) -> None:
        assert repr(secret("hunter2", ".")) == "<secret from the file itself>"


@pytest.fixture
def private(tmp_path: Path) -> Path:
    path = tmp_path / "x.secret"
    path.write_text("hunter2\nsecond line\n")
    path.chmod(0o600)
    return path


class TestAFile:
    def test_gives_its_first_line(self, private: Path) -> None:
        found = secret({"file": "x.secret"}, str(private.parent))
        found.check()
        assert found.reveal() == "hunter2"
        assert repr(found) == f"<secret from file {private}>"

    def test_may_be_under_home(self, home: Path) -> None:
        (home / "x").write_text(" spaces stay \r\n")
        (home / "x").chmod(0o400)
        assert secret({"file": "~/x"}, "/").reveal() == " spaces stay "

    def test_is_read_anew_each_time(self, private: Path) -> None:
        found = secret({"file": str(private)}, ".")
        found.reveal()
        private.write_text("changed")
        assert found.reveal() == "changed"

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o777])
    def test_c01_that_others_can_read_is_refused_with_the_line_to_run(
        self, private: Path, mode: int
    ) -> None:
        private.chmod(mode)
        found = secret({"file": str(private)}, ".")
        said = (
            f"secret file {private} can be read by others (mode 0{mode:o});"
            f" run: chmod 600 {private}"
        )
        assert fault(found) == said
        with pytest.raises(ConfigError, match="chmod 600"):
            found.check()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
    def test_c01_of_another_user_is_refused_with_the_line_to_run(self, private: Path) -> None:
        os.chown(private, 12345, -1)
        assert fault(secret({"file": str(private)}, ".")) == (
            f"secret file {private} belongs to another user (uid 12345): run mailflow as that user,"
            f" or: chown {os.geteuid()} {private}"
        )

    def test_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        found = secret({"file": "no.secret"}, str(tmp_path))
        assert fault(found) == (
            f"cannot read secret file {tmp_path}/no.secret: No such file or directory;"
            " it is to hold the secret in one line, with mode 600"
        )

    def test_that_is_no_file_is_told_at_once(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe", 0o600)
        assert fault(secret({"file": "pipe"}, str(tmp_path))).endswith("is not a regular file")
        assert fault(secret({"file": "."}, str(tmp_path))).endswith("is not a regular file")

    @pytest.mark.parametrize(
        ("octets", "said"),
        [
            (b"", "gives an empty first line; it must hold the secret"),
            (b"\nhunter2\n", "gives an empty first line; it must hold the secret"),
            (b"hunter2\0\n", "gives a NUL; it must hold the secret as text"),
            (b"\xff\xfehunter2\n", "does not give UTF-8 text"),
            (b"x" * 70000, "gives a first line of over 65536 octets"),
        ],
    )
    def test_without_a_secret_in_it_is_told(self, private: Path, octets: bytes, said: str) -> None:
        private.write_bytes(octets)
        assert fault(secret({"file": str(private)}, ".")) == f"secret file {private} {said}"


class TestTheEnvironment:
    def test_gives_a_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("POP_PASSWORD", "hunter2")
        assert secret({"env": "POP_PASSWORD"}, ".").reveal() == "hunter2"

    def test_without_it_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = secret({"env": "POP_PASSWORD"}, ".")
        assert fault(found) == (
            "environment variable POP_PASSWORD is not set; export it, or use a file"
        )
        monkeypatch.setenv("POP_PASSWORD", "")
        assert fault(found) == (
            "environment variable POP_PASSWORD is empty; export it, or use a file"
        )
        with pytest.raises(ConfigError):
            found.check()

    def test_c02_of_a_program_we_start_holds_no_secret(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("POP_PASSWORD", "hunter2")
        secret({"env": "POP_PASSWORD"}, ".")
        assert "POP_PASSWORD" not in child_environment()
        assert child_environment()["HOME"] == os.environ["HOME"]
        shows = secret({"command": ["sh", "-c", "echo ${POP_PASSWORD-none}"]}, ".")
        assert shows.reveal() == "none"


def python(program: str) -> SecretValue:
    return secret({"command": [sys.executable, "-c", program]}, ".")


class TestACommand:
    def test_gives_the_first_line_it_prints(self) -> None:
        assert python("print('hunter2'); print('second')").reveal() == "hunter2"

    def test_may_be_one_string_which_no_shell_sees(self, tmp_path: Path) -> None:
        assert secret({"command": "echo 'a b' $HOME ; false"}, ".").reveal() == "a b $HOME ; false"

    def test_is_run_beside_the_file(self, tmp_path: Path) -> None:
        assert secret({"command": ["pwd"]}, str(tmp_path)).reveal() == str(tmp_path)

    def test_gets_no_stdin_which_may_be_a_message(self) -> None:
        assert python("import sys; print(len(sys.stdin.read()))").reveal() == "0"

    def test_is_run_once(self, tmp_path: Path) -> None:
        found = secret({"command": ["sh", "-c", "echo x >> runs; wc -l < runs"]}, str(tmp_path))
        assert [found.reveal(), found.reveal()] == ["1", "1"]

    def test_is_run_anew_after_a_while_since_a_token_ends(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = secret({"command": ["sh", "-c", "echo x >> runs; wc -l < runs"]}, str(tmp_path))
        assert found.reveal() == "1"
        later = time.monotonic() + COMMAND_FRESH
        monkeypatch.setattr(time, "monotonic", lambda: later)
        assert [found.reveal(), found.reveal()] == ["2", "2"]

    def test_is_run_anew_for_what_was_refused_however_fresh_that_is(self, tmp_path: Path) -> None:
        found = secret({"command": ["sh", "-c", "echo x >> runs; wc -l < runs"]}, str(tmp_path))
        assert found.reveal() == "1"
        assert found.renew("1") == "2"
        assert found.renew("1") == "2", "another one has asked for it already"

    def test_is_run_once_for_many_threads(self, tmp_path: Path) -> None:
        program = "echo x >> runs; sleep 0.2; wc -l < runs"
        found = secret({"command": ["sh", "-c", program]}, str(tmp_path))
        with ThreadPoolExecutor(4) as pool:
            assert [*pool.map(lambda _: found.reveal(), range(4))] == ["1"] * 4

    def test_is_heard_by_who_has_more_descriptors_than_select_2_knows(self) -> None:
        taken = [os.dup(0) for _ in range(1100)]
        try:
            assert python("print('hunter2')").reveal() == "hunter2"
        finally:
            for descriptor in taken:
                os.close(descriptor)

    def test_that_is_not_there_is_told_by_a_check(self) -> None:
        found = secret({"command": ["no-such-program"]}, ".")
        said = "cannot run secret command no-such-program: no such program"
        assert fault(found) == said
        with pytest.raises(ConfigError, match=said):
            found.check()

    def test_is_not_run_by_a_check(self, tmp_path: Path) -> None:
        secret({"command": ["touch", "ran"]}, str(tmp_path)).check()
        assert not (tmp_path / "ran").exists()

    def test_c03_that_fails_is_told_with_the_reason_and_without_its_output(self) -> None:
        found = python("import sys; print('hunter2'); sys.exit('the store is locked\\nmore')")
        assert fault(found, UnavailableError) == (
            f"secret command {sys.executable} ended with status 1: the store is locked"
        )

    def test_c03_that_prints_nothing_is_told(self) -> None:
        assert fault(python("")) == (
            f"command {sys.executable} gives an empty first line; it must hold the secret"
        )

    def test_c03_that_hangs_is_ended_with_all_it_started(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(secrets, "COMMAND_TIMEOUT", 0.5)
        begun = time.monotonic()
        hangs = secret(
            {"command": ["sh", "-c", "sleep 61.5 & echo $! > child; wait"]}, str(tmp_path)
        )
        assert fault(hangs, UnavailableError) == "secret command sh gave no answer in 0.5 s"
        assert time.monotonic() - begun < 20
        child = int((tmp_path / "child").read_text())
        state = Path(f"/proc/{child}/stat")
        while state.exists() and state.read_text().split()[2] != "Z":
            assert time.monotonic() - begun < 20

    def test_c03_that_prints_without_end_is_ended(self) -> None:
        assert fault(secret({"command": ["yes"]}, "."), UnavailableError) == (
            "secret command yes printed more than 65536 octets"
        )


class TestNetrc:
    @pytest.fixture
    def netrc(self, home: Path) -> Path:
        path = home / ".netrc"
        path.write_text("machine pop.example.org login ann password hunter2\n")
        path.chmod(0o600)
        return path

    def test_gives_the_password_of_a_machine(self, netrc: Path) -> None:
        found = secret({"netrc": "pop.example.org"}, ".")
        found.check()
        assert found.reveal() == "hunter2"

    def test_without_that_machine_is_told(self, netrc: Path) -> None:
        assert fault(secret({"netrc": "imap.example.org"}, ".")) == (
            f"netrc file {netrc} has no password for machine imap.example.org"
        )

    def test_c02_that_is_malformed_is_told_without_quoting_it(self, netrc: Path) -> None:
        netrc.write_text("\nmachine pop.example.org login ann pasword hunter2\n")
        assert fault(secret({"netrc": "pop.example.org"}, ".")) == (
            f"netrc file {netrc} is malformed at line 2"
        )

    def test_c01_that_others_can_read_is_refused(self, netrc: Path) -> None:
        netrc.chmod(0o644)
        assert fault(secret({"netrc": "pop.example.org"}, ".")).endswith(f"run: chmod 600 {netrc}")

    def test_that_is_not_there_is_told(self, home: Path) -> None:
        assert fault(secret({"netrc": "x"}, ".")) == (
            f"cannot read netrc file {home}/.netrc: No such file or directory"
        )


def test_c02_what_is_revealed_is_masked_from_then_on(private: Path) -> None:
    private.write_text("canary-from-a-file\n")
    found = secret({"file": str(private)}, ".")
    assert "canary-from-a-file" in log.mask("canary-from-a-file")
    found.reveal()
    assert log.mask("it is canary-from-a-file!") == "it is ********!"


class Chest(KeyringBackend):
    """A keyring in memory: no desktop runs where tests do."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()
        self.locked = False
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise KeyringLocked("the collection is locked")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password


@pytest.fixture
def chest() -> Iterator[Chest]:
    before = keyring.get_keyring()
    chest = Chest()
    keyring.set_keyring(chest)
    yield chest
    keyring.set_keyring(before)


def test_csp_07_a_secret_in_the_desktops_keyring_is_found(chest: Chest) -> None:
    keyring.set_password("pop.example.org", "ann", "hush")
    assert secret({"keyring": "pop.example.org/ann"}, ".").reveal() == "hush"


def test_a_keyring_without_it_says_how_to_put_it_there(chest: Chest) -> None:
    found = secret({"keyring": "pop.example.org/ann"}, ".")
    assert fault(found) == (
        "the keyring has no pop.example.org/ann; run: keyring set pop.example.org ann"
    )


def test_a_locked_keyring_is_for_later(chest: Chest) -> None:
    chest.locked = True
    found = secret({"keyring": "pop.example.org/ann"}, ".")
    said = fault(found, UnavailableError)
    assert said == "the keyring cannot be used: KeyringLocked: the collection is locked"


def test_where_there_is_no_keyring_a_file_is_named(
    chest: Chest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(service: str, username: str) -> str:
        raise NoKeyringError("No recommended backend was available. Install a 3rd party package.")

    monkeypatch.setattr(chest, "get_password", none)
    assert fault(secret({"keyring": "pop.example.org/ann"}, "."), UnavailableError) == (
        "the keyring cannot be used: there is none here, as a desktop has one;"
        " keep it in a file instead"
    )


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    found = secret({"keyring": "pop.example.org/ann"}, ".")
    assert fault(found) == "secrets in the keyring need: pip install 'mailflow[keyring]'"


@pytest.mark.parametrize("kind", ["file", "netrc"])
def test_a_file_that_is_renewed_for_years_makes_the_log_no_longer(
    kind: str, tmp_path: Path, home: Path
) -> None:
    path = {"file": tmp_path / "token", "netrc": home / ".netrc"}[kind]
    value = secret({kind: {"file": str(path), "netrc": "pop.example.org"}[kind]}, str(tmp_path))
    for number in range(3 * RECENT):
        token = f"token-number-{number:03}"
        text = {"file": token, "netrc": f"machine pop.example.org login ann password {token}"}[kind]
        path.touch(0o600)
        path.write_text(f"{text}\n")
        assert value.reveal() == token
        assert mask(token) == MASK
    assert mask("token-number-000") == "token-number-000"
