"""What steps must keep beside each other: fields that are known, secrets, ways, places."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import keyring
import pytest
from keyring.errors import KeyringLocked

from mailflow.engine.config import Pipeline, load

from .lofts import SMALL, Loft, Write


class TestFieldsThatNothingCanKnow:
    @pytest.mark.parametrize(
        ("table", "query", "said"),
        [
            ("fetch", "flagged", "`flagged` is not known: this source does not tell it"),
            ("fetch", "attempt > 3", "`attempt` is known to [[react]] only"),
            ("fetch", 'note "x" exists', "`note` is not known yet: no step has noted anything"),
            ("fetch", 'source is "pigeon"', "`source` is this step itself"),
            (
                "process",
                "seen",
                "`seen` is known to [[fetch]] only: a mailbox tells it, a mail does not",
            ),
            ("process", "error.temporary", "`error.temporary` is known to [[react]] only"),
            (
                "distribute",
                'source is "pigon"',
                'no [[fetch]] has the name "pigon"; did you mean `pigeon`?',
            ),
            (
                "react",
                'step in ("pigeon", "dove")',
                'no step has the name "dove"; there are pigeon, p2',
            ),
        ],
    )
    def test_are_a_fault(
        self, faults: Callable[..., list[str]], table: str, query: str, said: str
    ) -> None:
        key = "where" if table == "fetch" else "when"
        steps = [f"[[{each}]]\nuse = 'pigeon'\nhost = 'x'\n" for each in ("fetch", "distribute")]
        steps.insert(0, f"[[{table}]]\nuse = 'pigeon'\nhost = 'x'\n{key} = {query!r}\nname='p2'\n")
        [fault] = faults("".join(steps))
        assert fault.partition(f"{table}[1].{key}: ")[2].startswith(said)

    def test_what_the_source_tells_and_what_a_mail_says_is_none(
        self, read: Callable[[str], Pipeline]
    ) -> None:
        pipeline = read("""
            [[fetch]]
            use = "pigeon"
            host = "x"
            where = 'not seen and size < 3 and since 3d and sender exists and has attachment'
            [[process]]
            use = "pigeon"
            host = "x"
            when = 'source is "PIGEON" and note "x" exists and size < 3'
            [[distribute]]
            use = "pigeon"
            host = "x"
            [[react]]
            use = "pigeon"
            host = "x"
            when = 'step is "pigeon" and verdict is "hold" and from is "a@b"'
        """)
        assert pipeline.fetch[0].where.fields >= {"seen", "attachment"}


def test_a_journal_that_is_a_directory_is_a_fault_of_a_thorough_check(
    faults: Callable[..., list[str]], tmp_path: Path
) -> None:
    text = f"[pipeline]\njournal = '{tmp_path}'\n" + SMALL
    assert faults(text, thorough=True) == [
        "2: pipeline.journal: expected a file; it is a directory"
    ]


class TestSecrets:
    TEXT = SMALL + "[[distribute]]\nuse = 'pigeon'\nhost = 'x'\npassword = {}\n"

    def test_are_not_looked_for_unless_asked(self, read: Callable[[str], Pipeline]) -> None:
        assert read(self.TEXT.format('{ env = "NOWHERE_SET" }'))

    def test_that_cannot_be_had_are_faults_of_a_thorough_check(
        self, faults: Callable[..., list[str]], tmp_path: Path
    ) -> None:
        assert faults(self.TEXT.format('{ env = "NOWHERE_SET" }'), thorough=True) == [
            (
                "10: distribute[2].password: environment variable NOWHERE_SET is not set;"
                " export it, or use a file"
            )
        ]
        assert faults(self.TEXT.format('{ file = "x.secret" }'), thorough=True) == [
            (
                f"10: distribute[2].password: cannot read secret file {tmp_path}/x.secret:"
                " No such file or directory; it is to hold the secret in one line, with mode 600"
            )
        ]

    def test_a_keyring_that_is_locked_is_a_fault_of_the_check_with_its_place(
        self, faults: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def locked(service: str, user: str) -> str:
            raise KeyringLocked("unlock it first")

        monkeypatch.setattr(keyring, "get_password", locked)
        [fault] = faults(self.TEXT.format('{ keyring = "x/y" }'), thorough=True)
        assert fault.startswith("10: distribute[2].password: the keyring cannot be used: ")

    def test_in_the_file_itself_are_a_warning(self, write: Write) -> None:
        path = write(self.TEXT.format('"hunter2"'))
        os.chmod(path, 0o600)
        [pipeline] = load([path], Loft())
        assert [str(warning) for warning in pipeline.warnings] == [
            (
                f"{path}:10: distribute[2].password: the secret is in this file;"
                ' better { file = "...", env = ... or command = ... }'
            )
        ]
        assert "hunter2" not in repr(pipeline)

    def test_c01_in_a_file_that_others_can_read_are_a_fault(
        self, faults: Callable[..., list[str]], tmp_path: Path
    ) -> None:
        text = self.TEXT.format('"hunter2"')
        modes = {d: d.stat().st_mode for d in (tmp_path, *tmp_path.parents) if "pytest" in str(d)}
        try:
            for directory in modes:
                directory.chmod(0o755)
            found = faults(text)
        finally:
            for directory, mode in modes.items():
                directory.chmod(mode)
        assert found == [
            (
                "10: distribute[2].password: the secret is in this file, which others can read;"
                f" run: chmod 600 {tmp_path}/red.toml"
            )
        ]

    def test_c01_a_directory_that_shuts_others_out_protects_it(
        self, write: Write, tmp_path: Path
    ) -> None:
        tmp_path.chmod(0o700)
        path = write(self.TEXT.format('"hunter2"'))
        os.chmod(path, 0o644)
        assert load([path], Loft())[0].warnings

    def test_an_account_nobody_uses_is_a_warning(self, read: Callable[[str], Pipeline]) -> None:
        pipeline = read(SMALL + "[account.old]\nhost = 'x'\n")
        assert [warning[2:4] for warning in pipeline.warnings] == [
            ("account.old", "no step uses this account")
        ]


class TestWays:
    """A step that sends notices needs one to send them by."""

    NOTIFY = "[[react]]\nuse = 'react.notify'\nto = 'ann@example.org'\n"
    SENDER = "[[distribute]]\nuse = 'pigeon'\nhost = 'x'\n"

    def test_one_that_sends_will_do(self, read: Callable[[str], Pipeline]) -> None:
        assert read(SMALL + self.SENDER + self.NOTIFY)
        assert read(SMALL + self.NOTIFY + "via = 'maildir'\n")

    def test_where_none_sends_it_is_told(self, faults: Callable[..., list[str]]) -> None:
        bounce = "[[react]]\nuse = 'react.bounce'\nfrom = 'd@example.org'\n"
        text = "it sends mail, and no [[distribute]] step does: add one, such as smtp"
        assert faults(SMALL + self.NOTIFY + bounce) == [
            f"8: react[1].use: {text}",
            f"11: react[2].use: {text}",
        ]

    def test_one_that_is_named_must_be_there(self, faults: Callable[..., list[str]]) -> None:
        assert faults(SMALL + self.SENDER + self.NOTIFY + "via = 'pigeno'\n") == [
            "13: react[1].via: no [[distribute]] has the name `pigeno`; did you mean `pigeon`?"
        ]

    def test_one_that_is_at_fault_may_send(self, faults: Callable[..., list[str]]) -> None:
        assert faults(SMALL + "[[distribute]]\nuse = 'pigeon'\n" + self.NOTIFY) == [
            "7: distribute[2]: `host` is missing: The server's name or address."
        ]


class TestLooks:
    TEXT = SMALL + "[[distribute]]\nuse = 'anxious'\nhost = 'x'\nca_file = 'none.pem'\n"

    def test_nobody_looks_at_files_unless_asked(self, read: Callable[[str], Pipeline]) -> None:
        assert read(self.TEXT)

    def test_what_options_see_in_the_world_are_faults_of_a_thorough_check(
        self, faults: Callable[..., list[str]], tmp_path: Path
    ) -> None:
        assert faults(self.TEXT, thorough=True) == [
            "9: distribute[2].host: the loft is on fire",
            (
                f"10: distribute[2].ca_file: cannot use ca_file {tmp_path}/none.pem:"
                " No such file or directory"
            ),
        ]

    def test_a_fault_of_an_account_s_file_stands_at_the_account(
        self, faults: Callable[..., list[str]]
    ) -> None:
        text = SMALL + (
            "[[distribute]]\nuse = 'pigeon'\naccount = 'a'\n"
            "[account.a]\nhost = 'x'\nca_file = 'none.pem'\n"
        )
        [fault] = faults(text, thorough=True)
        assert fault.startswith("12: account.a.ca_file: cannot use ca_file")


class TestCircles:
    TEXT = (
        "[[fetch]]\nuse = 'maildir'\npath = 'box'\n{fetch}\n"
        "[[distribute]]\nuse = '{kind}'\npath = './box'\n{to}\n"
    )

    def test_what_is_delivered_where_it_is_fetched_from_is_a_fault(
        self, faults: Callable[..., list[str]], tmp_path: Path
    ) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "box")
        text = self.TEXT.format(kind="maildir", fetch="", to="")
        assert faults(text.replace("./box", "link")) == [
            "7: distribute[1].path: maildir fetches from here: what is delivered would come again"
        ]

    @pytest.mark.parametrize(
        ("kind", "fetch", "to"),
        [
            ("maildir", "where = 'size < 9'", ""),
            ("maildir", "folders = ['Old']", ""),
            ("maildir", "", "folder = 'Old'"),
            ("mbox", "", ""),
        ],
    )
    def test_a_part_of_a_place_is_another(
        self, read: Callable[[str], Pipeline], kind: str, fetch: str, to: str
    ) -> None:
        assert read(self.TEXT.format(kind=kind, fetch=fetch, to=to))
