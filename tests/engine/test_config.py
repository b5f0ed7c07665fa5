"""A pipeline's file becomes steps, or every fault of it is told at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from mailflow.directories import state_directory
from mailflow.engine.config import ConfigFaults, Pipeline, load, load_dict
from mailflow.engine.registry import Registry
from mailflow.errors import ConfigError
from mailflow.options import FOREVER
from mailflow.query import Query

from .lofts import SMALL, Loft, Write


class TestAPipeline:
    def test_what_the_file_does_not_say_has_its_default(
        self, write: Write, home: Path, tmp_path: Path
    ) -> None:
        path = write(SMALL)
        [pipeline] = load([path])
        assert (pipeline.path, pipeline.name, pipeline.base) == (path, "red", str(tmp_path))
        assert (pipeline.history, pipeline.linger) == (30 * 86400, 20)
        [fetch] = pipeline.fetch
        assert (fetch.name, fetch.use, fetch.component.__name__) == (
            "stdin",
            "stdin",
            "StdinFetcher",
        )
        assert fetch.where is Query.always
        assert (fetch.keep, fetch.limit, fetch.start) == (FOREVER, None, None)
        [distribute] = pipeline.distribute
        assert (distribute.when, distribute.parallel, distribute.if_in_doubt) == (None, 1, "resend")
        assert (pipeline.process, pipeline.react, pipeline.warnings) == ((), (), ())

    def test_what_it_says_is_converted(self, read: Callable[[str], Pipeline]) -> None:
        pipeline = read("""
            [pipeline]
            name = "blue"
            journal = "state/blue.db"
            history = "1w"
            linger = 0
            [[fetch]]
            use = "pigeon"
            name = "north"
            host = "x"
            timeout = "2m"
            where = "size < 2MB"
            keep = "14d"
            limit = 5
            start = "new"
            [[process]]
            use = "pigeon.two"
            host = "x"
            when = "size > 3"
            [[distribute]]
            use = "pigeon"
            host = "x"
            parallel = 4
            if_in_doubt = "hold"
            [[react]]
            use = "pigeon"
            host = "x"
            when = 'stage is "fetch"'
        """)
        assert (pipeline.name, pipeline.history, pipeline.linger) == ("blue", 604800, 0)
        assert pipeline.journal == os.path.join(pipeline.base, "state/blue.db")
        [fetch] = pipeline.fetch
        assert fetch[:2] == ("north", "pigeon")
        assert fetch.options.timeout == 120  # type: ignore[attr-defined]
        assert str(fetch.where) == "size < 2000000"
        assert fetch[5:8] == (14 * 86400, 5, "new")
        assert pipeline.process[0].name == "pigeon.two"
        assert str(pipeline.process[0].when) == "size > 3"
        assert pipeline.distribute[0][4:] == (None, 4, "hold")
        assert str(pipeline.react[0].when) == 'stage is "fetch"'

    def test_steps_keep_their_order(self, read: Callable[[str], Pipeline]) -> None:
        text = SMALL + "".join(
            f'[[distribute]]\nuse = "maildir"\nname = "{name}"\npath = "x"\n' for name in "zmab"
        )
        assert [step.name for step in read(text).distribute] == ["maildir", *"zmab"]

    def test_relative_paths_start_at_the_file_and_a_tilde_is_home(
        self, read: Callable[[str], Pipeline], home: Path
    ) -> None:
        pipeline = read(SMALL)
        assert pipeline.distribute[0].options.path == os.path.join(pipeline.base, "Maildir")  # type: ignore[attr-defined]
        pipeline = read(SMALL.replace('"Maildir"', '"~/Maildir"'))
        assert pipeline.distribute[0].options.path == str(home / "Maildir")  # type: ignore[attr-defined]

    def test_an_account_gives_what_the_step_does_not_say(
        self, read: Callable[[str], Pipeline]
    ) -> None:
        """PWM-08: the more specific source wins."""
        pipeline = read("""
            [[fetch]]
            use = "pigeon"
            account = "work"
            port = 1995
            [[distribute]]
            use = "pigeon"
            account = "work"
            [account.work]
            host = "pop.example.org"
            user = "ann"
            port = 995
        """)
        fetched: Any = pipeline.fetch[0].options
        assert (fetched.host, fetched.user, fetched.port) == ("pop.example.org", "ann", 1995)
        sent: Any = pipeline.distribute[0].options
        assert (sent.host, sent.port) == ("pop.example.org", 995)

    def test_from_a_dict_it_is_the_same(self, tmp_path: Path) -> None:
        pipeline = load_dict(
            {"fetch": [{"use": "stdin"}], "distribute": [{"use": "maildir", "path": "x"}]},
            base=str(tmp_path),
        )
        assert (pipeline.name, pipeline.base) == ("python", str(tmp_path))
        with pytest.raises(ConfigFaults) as raised:
            load_dict({"fetch": [{"use": "stdin", "wher": "x"}]}, name="mine")
        assert str(raised.value) == (
            "mine: fetch[1].wher: unknown key; did you mean `where`?\n"
            "mine: there is no [[distribute]]; a pipeline needs one or more"
        )

    def test_a_plugin_is_loaded_for_its_listener(self, write: Write) -> None:
        class Asked(Registry):
            asked: list[str] = []

            def load(self, name: str) -> None:
                self.asked.append(name)

        load([write('[pipeline]\nplugins = ["metrics"]\n' + SMALL)], Asked())
        assert Asked.asked == ["metrics"]


class TestTheJournal:
    def test_is_under_the_state_directory_by_name_and_place(
        self, write: Write, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("XDG_STATE_HOME")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        [pipeline] = load([write(SMALL)])
        directory, name = os.path.split(pipeline.journal)
        assert directory == str(home / ".local/state/mailflow")
        assert name.startswith("red-")
        assert name.endswith(".db")

    def test_of_root_is_under_var_lib(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("XDG_STATE_HOME")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        assert state_directory() == "/var/lib/mailflow"

    def test_follows_xdg_state_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", "/srv/state")
        assert state_directory() == "/srv/state/mailflow"
        monkeypatch.setenv("XDG_STATE_HOME", "relative")
        assert "relative" not in state_directory()

    def test_is_the_same_by_whatever_path_the_file_is_named(
        self, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(SMALL)
        (tmp_path / "link").symlink_to(tmp_path)
        monkeypatch.chdir(tmp_path)
        journals = {load([each])[0].journal for each in (path, "red.toml", "link/red.toml", "red")}
        assert len(journals) == 1

    def test_of_two_files_with_one_name_is_not_the_same(self, write: Write, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        first, second = write(SMALL), write(SMALL, "other/red.toml")
        assert load([first])[0].journal != load([second])[0].journal

    def test_without_a_home_must_be_said(
        self, faults: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("XDG_STATE_HOME")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)
        assert faults(SMALL) == [
            "1: pipeline.journal: no home directory is known; say where the journal shall be"
        ]


class TestFaults:
    def test_c04_every_one_is_told_at_once_with_its_line(
        self, faults: Callable[..., list[str]]
    ) -> None:
        assert faults("""\
            [pipeline]
            lingr = "3s"
            history = 5

            [[fetch]]
            use = "pigeon"
            where = 'seen and siz < 3'
            account = "wrk"

            [[distribute]]
            use = "pigeon"
            host = "x"
            hots = "x"
            tls = "startls"
            parallel = 0
            password = { fil = "x" }
            grain = { corn = "2x", pease = "1d" }
            rings = ["a", "", 5]

            [[distribut]]
            [[process]]
            use = "stdn"
            [account.work]
            user = 5
        """) == [
            "2: pipeline.lingr: unknown key; did you mean `linger`?",
            (
                "3: pipeline.history: expected a duration such as"
                ' "30s", "10m", "2h", "14d" or "forever"; found 5'
            ),
            "5: fetch[1]: `host` is missing: The server's name or address.",
            (
                "7: fetch[1].where: there is no field `siz`; did you mean `size`?"
                " (at column 10 of 'seen and siz < 3')"
            ),
            "8: fetch[1].account: unknown account; did you mean `work`?",
            "13: distribute[1].hots: unknown key; did you mean `host`?",
            '14: distribute[1].tls: expected "implicit" or "starttls" or "none"; found "startls"',
            "15: distribute[1].parallel: expected a whole number from 1 to 64; found 0",
            "16: distribute[1].password: no secret comes from 'fil'; did you mean `file`?",
            (
                "17: distribute[1].grain.corn: expected a duration such as"
                ' "30s", "10m", "2h", "14d" or "forever"; found "2x"'
            ),
            "17: distribute[1].grain.pease: unknown key; did you mean `peas`?",
            '18: distribute[1].rings[2]: expected a string that is not empty; found ""',
            "18: distribute[1].rings[3]: expected a string that is not empty; found 5",
            "20: distribut: unknown table; did you mean `distribute`?",
            "22: process[1].use: there is no plugin `stdn`; did you mean `stdin`?",
        ]

    def test_the_error_is_for_a_human_and_for_sysexits(self, write: Write) -> None:
        path = write(SMALL.replace("path", "pat"))
        with pytest.raises(ConfigError) as raised:
            load([path])
        assert raised.value.exit_code == 78
        assert str(raised.value) == (
            f"{path}:4: distribute[1]: `path` is missing: {raised.value.faults[0].text[19:]}\n"  # type: ignore[attr-defined]
            f"{path}:6: distribute[1].pat: unknown key; did you mean `path`?"
        )

    def test_an_expression_is_shown_with_a_mark_below_its_fault(self, write: Write) -> None:
        path = write(SMALL.replace('"stdin"', '"stdin"\nwhere = "size < x"'))
        with pytest.raises(ConfigFaults) as raised:
            load([path])
        assert raised.value.detailed == (
            f"{path}:4: fetch[1].where: expected a number with a unit, such as 2MB; found `x`"
            " (at column 8 of 'size < x')\n"
            "    size < x\n"
            "           ^"
        )

    def test_of_several_files_all_are_told(self, write: Write) -> None:
        paths = [write("a = 1", "a.toml"), write("[[fetch]\n", "b.toml"), write(SMALL, "c.toml")]
        with pytest.raises(ConfigFaults) as raised:
            load(paths)
        files = [fault.file for fault in raised.value.faults]
        assert files == [paths[0]] * 3 + [paths[1]]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("fetch = 5", ["1: fetch: expected an array of tables; write [[fetch]]"]),
            ("[fetch]\nuse = 'stdin'", ["1: fetch: expected an array of tables; write [[fetch]]"]),
            ("fetch = [5]", ["1: fetch[1]: expected a table"]),
            ("pipeline = 5\n[[fetch]]\nuse = 'stdin'", ["1: pipeline: expected a table"]),
            ("account = 5\n[[fetch]]\nuse = 'stdin'", ["1: account: expected a table"]),
            ("account.x = 5\n[[fetch]]\nuse = 'stdin'", ["1: account.x: expected a table"]),
            (
                "[[fetch]]\nuse = 5",
                ["2: fetch[1].use: expected a string that is not empty; found 5"],
            ),
            ("[[fetch]]\nuse = ''", None),
            (
                "[[fetch]]",
                ['1: fetch[1]: `use` is missing: The component: "plugin" or "plugin.component".'],
            ),
            ("", ["1: there is no [[fetch]]; a pipeline needs one or more"]),
            ("fetch = []", ["1: there is no [[fetch]]; a pipeline needs one or more"]),
            (
                "[[serve]]\nuse = 'pigeon'\nhost = 'x'",
                ["1: there is no [[fetch]]; a pipeline needs one or more"],
            ),
        ],
    )
    def test_a_table_of_the_wrong_form_is_told(
        self, faults: Callable[..., list[str]], text: str, said: list[str] | None
    ) -> None:
        distribute = "\n[[distribute]]\nuse = 'maildir'\npath = 'x'\n"
        found = faults(text + distribute)
        assert found == (said or ['2: fetch[1].use: expected a string that is not empty; found ""'])

    def test_a_service_with_a_fault_needs_no_source_either(
        self, faults: Callable[..., list[str]]
    ) -> None:
        [said] = faults("[[serve]]\nuse = 'pop3'\nlisten = '/tmp/x'\n")
        assert said.startswith("3: serve[1].listen: expected an address such as")

    @pytest.mark.parametrize(
        ("one", "two"),
        [
            ("127.0.0.1:1110", "127.0.0.1:1110"),
            ("*:1110", "[::1]:1110"),
            ("unix:run/pop3", "unix:./run/pop3"),
        ],
    )
    def test_two_services_cannot_listen_on_one_address(
        self, faults: Callable[..., list[str]], one: str, two: str
    ) -> None:
        services = [
            f"[[serve]]\nname = '{name}'\nuse = 'pop3'\nlisten = ['127.0.0.1:0', '{each}']\n"
            for name, each in (("one", one), ("two", two))
        ]
        [said] = faults("".join(services))
        assert said.startswith("8: serve[2].listen: one listens on ")

    def test_two_services_may_share_a_port_or_what_systemd_has_bound(self, write: Write) -> None:
        services = [
            f"[[serve]]\nname = '{each}'\nuse = 'pop3'\nlisten = ['systemd', '{each}:1110']\n"
            for each in ("127.0.0.1", "127.0.0.2")
        ]
        [pipeline] = load([write("".join(services))], Loft())
        assert len(pipeline.serve) == 2

    def test_two_steps_of_one_kind_cannot_have_one_name(
        self, faults: Callable[..., list[str]]
    ) -> None:
        assert faults(SMALL + '[[distribute]]\nuse = "maildir"\npath = "y"\n') == [
            "8: distribute[2].use: distribute[1] has the name `maildir` too; give this one a `name`"
        ]

    def test_a_rule_that_joins_options_is_told_where_they_stand(
        self, faults: Callable[..., list[str]]
    ) -> None:
        text = SMALL + "[[distribute]]\nuse = 'pigeon'\nhost = 'x'\nloft = 'Paris'\n"
        assert faults(text) == ["10: distribute[2].loft: Paris needs a `port`"]

    def test_what_an_account_says_wrong_is_told_there_and_once(
        self, faults: Callable[..., list[str]]
    ) -> None:
        steps = "[[distribute]]\nuse = 'pigeon'\naccount = 'a'\n"
        text = SMALL + steps + steps + "name = 'b'\n[account.a]\nhost = ''\nloftt = 'x'\n"
        assert faults(text) == [
            '15: account.a.host: expected a string that is not empty; found ""',
            "16: account.a.loftt: unknown key; did you mean `loft`?",
        ]

    def test_c01_a_secret_of_an_account_is_told_there_and_once(
        self, faults: Callable[..., list[str]]
    ) -> None:
        steps = "[[distribute]]\nuse = 'pigeon'\naccount = 'a'\n"
        account = "[account.a]\nhost = 'x'\npassword = { env = 'NOWHERE_SET' }\n"
        [fault] = faults(SMALL + steps + steps + "name = 'b'\n" + account, thorough=True)
        assert fault.startswith("16: account.a.password: environment variable NOWHERE_SET")

    def test_g08_a_fault_is_one_line_whatever_the_file_holds(
        self, faults: Callable[..., list[str]]
    ) -> None:
        assert faults('"a\\nb\\u001b" = 1\n' + SMALL.replace('"stdin"', '"x\\u202ey"')) == [
            (
                "1: a\\nb\\x1b: unknown table; there are"
                " pipeline, fetch, process, distribute, react, maildrop, serve, account"
            ),
            "4: fetch[1].use: there is no plugin `x\\u202ey`; is it installed here?",
        ]

    def test_a_component_cannot_take_a_key_of_the_engine(
        self, faults: Callable[..., list[str]]
    ) -> None:
        assert faults(SMALL + "[[distribute]]\nuse = 'greedy'\n") == [
            "8: distribute[2].use: plugin fault: `greedy` takes `name`, the engine's own"
        ]

    def test_c05_options_that_raise_are_a_fault_of_their_plugin(
        self, faults: Callable[..., list[str]]
    ) -> None:
        assert faults(SMALL + "[[distribute]]\nuse = 'broken'\n") == [
            "7: distribute[2]: its plugin failed: ZeroDivisionError: oh"
        ]

    def test_one_file_cannot_be_given_twice(self, write: Write, tmp_path: Path) -> None:
        path = write(SMALL)
        with pytest.raises(ConfigFaults, match=r"red\.toml: this file is given twice$"):
            load([path, str(tmp_path / "." / "red.toml")])

    def test_two_pipelines_cannot_have_one_name(self, write: Write, tmp_path: Path) -> None:
        (tmp_path / "b").mkdir()
        first, second = write(SMALL), write(SMALL, "b/red.toml")
        with pytest.raises(ConfigFaults) as raised:
            load([first, second])
        assert str(raised.value) == (
            f"{second}: `red` is also the name of {first}; give one of them another [pipeline] name"
        )


def test_the_hook_s_path_imports_nothing_heavy(write: Write) -> None:
    path = write(SMALL)
    program = f"""
        import sys
        from mailflow.engine.config import load
        load([{path!r}])
        heavy = {{"asyncio", "click", "dataclasses", "difflib", "email", "importlib.metadata",
                 "inspect", "json", "logging", "pluggy", "shlex", "smtplib", "ssl", "structlog",
                 "subprocess", "mailflow.query.grammar", "mailflow.toml_lines"}}
        print(*sorted(heavy & set(sys.modules)))
    """
    run = subprocess.run(
        [sys.executable, "-c", dedent(program)], capture_output=True, text=True, check=True
    )
    assert run.stdout == "\n"
