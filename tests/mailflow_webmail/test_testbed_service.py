"""The test bed as a program: under `mailflow serve`, and alone as `mailflow testbed webmail`."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import requests
from bs4 import BeautifulSoup

from mailflow.engine import registry
from mailflow.engine.registry import Registry
from mailflow.errors import ConfigError
from mailflow.testing.serving import Serving, free_ports
from mailflow_webmail.testbed.troubles import KNOWN, STEPS, Troubles, read

from ..cli.command import Shop

ROOT = Path(__file__).parents[2]

MBOX = b"""\
From ann@example.org Thu Jan  1 00:00:00 2026
From: ann@example.org
Subject: one

>From here

From ben@example.org Thu Jan  1 00:00:00 2026
From: ben@example.org
Subject: two

two

"""


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
def mbox(shop: Shop) -> Path:
    path = shop.home / "archive.mbox"
    path.write_bytes(MBOX)
    return path


def fault(**options: object) -> str:
    """What is wrong with a [[serve]] table."""
    options = {"path": "archive.mbox", **options}
    with pytest.raises(ConfigError) as caught:
        Registry().component("serve", "webmail.testbed").options.read(options)
    return str(caught.value)


def test_pwm_29_it_is_a_service_of_serve(shop: Shop, mbox: Path) -> None:
    (port,) = free_ports(1)
    shop.write(
        '[[serve]]\nuse = "webmail.testbed"\npath = "{home}/archive.mbox"\n'
        'listen = ["127.0.0.1:{port}"]\n', port=port,
    )  # fmt: skip
    with Serving(shop.path):
        assert subjects(f"http://127.0.0.1:{port}/", "demo", "demo") == ["two", "one"]


def test_pwm_29_it_runs_alone_until_a_signal(shop: Shop, mbox: Path) -> None:
    child = shop.start(
        "testbed", "webmail", str(mbox), "--port", "0", "--user", "ann", "--password", "x y",
        "--folder", f"Work={shop.home}/work", "--page-size", "1",
    )  # fmt: skip
    try:
        url = ""
        while not url:
            line = child.stderr.readline().decode()
            assert line, "it ended"
            url = "".join(re.findall(r"url=(\S+)", line))
        assert subjects(url, "ann", "x y") == ["two"]
    finally:
        child.send_signal(signal.SIGTERM)
        done = shop.end(child)
    assert done.status == 0
    assert mbox.read_bytes() == MBOX


def subjects(url: str, user: str, password: str) -> list[str]:
    """Those of the first page of the inbox."""
    with requests.Session() as browser:
        page = BeautifulSoup(browser.get(f"{url}login").content, "lxml")
        (nonce,) = page.select("input[name=nonce]")
        form = {"user": user, "pass": password, "nonce": nonce["value"]}
        browser.post(f"{url}login", data=form)
        page = BeautifulSoup(browser.get(f"{url}list?folder=INBOX").content, "lxml")
    return [tag.get_text() for tag in page.select("td.subject")]


@pytest.mark.parametrize("address", ["0.0.0.0:8025", "*:8025", "192.0.2.1:8025", "[::]:8025"])
def test_other_machines_do_not_reach_it_unless_it_is_told_so(address: str) -> None:
    assert (
        fault(listen=[address]) == "listen: other machines would reach it; `anywhere` allows that"
    )
    options = {"path": "archive.mbox", "listen": [address], "anywhere": True}
    Registry().component("serve", "webmail.testbed").options.read(options)


def test_an_address_without_a_port_is_a_fault() -> None:
    assert fault(listen=["unix:/run/x"]) == "listen: expected an address with a port"


def test_a_trouble_that_is_none_is_a_fault() -> None:
    said = "there is no trouble 'slo'; did you mean `slow`?"
    assert fault(troubles=["slo"]) == f"troubles: {said}"


def test_the_command_refuses_what_the_service_does(shop: Shop, mbox: Path) -> None:
    done = shop("testbed", "webmail", str(mbox), "--address", "0.0.0.0")
    assert done.status == 64
    assert "--address: 0.0.0.0: other machines would reach it; --anywhere allows" in done.err
    done = shop("testbed", "webmail", str(mbox), "--trouble", "slo")
    assert done.status == 64
    assert "did you mean `slow`?" in done.err
    done = shop("testbed", "webmail", str(mbox), "--folder", "Work")
    assert done.status == 64
    assert "expected NAME=MBOX" in done.err


def test_what_is_no_mbox_ends_the_command(shop: Shop, mbox: Path) -> None:
    mbox.write_text("Dear diary")
    done = shop("testbed", "webmail", str(mbox), "--port", "0")
    assert done.status == 78
    assert f"{mbox} is no mbox file" in done.err


def test_help_lists_every_trouble(shop: Shop) -> None:
    out = shop("testbed", "webmail", "--help").out
    for name, trouble in KNOWN.items():
        assert re.search(rf"^ +{name} +{trouble.what}", out, re.MULTILINE), name


def test_help_lists_the_servers_that_plugins_bring(shop: Shop) -> None:
    assert "  webmail  A webmail that reads an mbox." in shop("testbed", "--help").out
    shop.plugin("pigeon", PIGEON)
    assert "loft" in shop("testbed", "--help").out
    assert shop("testbed", "loft").out == "coo\n"


def test_a_plugin_that_cannot_be_loaded_takes_no_server_away(shop: Shop) -> None:
    shop.plugin("crow", "raise RuntimeError('broken')")
    done = shop("testbed", "--help")
    assert (done.status, done.err) == (0, "")
    assert "  webmail  " in done.out


PIGEON = """
import click
from mailflow import hookimpl

@hookimpl
def mailflow_register(register):
    pass

@hookimpl
def mailflow_testbeds(group):
    group.add_command(click.Command("loft", callback=lambda: click.echo("coo"), help="A loft."))
"""


def test_nothing_but_the_test_bed_imports_flask() -> None:
    importing = re.compile(r"^\s*(?:from|import) (?:flask|werkzeug|jinja2)\b", re.MULTILINE)
    found = {
        path.parent.name
        for directory in ("mailflow", "plugins")
        for path in (ROOT / directory).rglob("*.py")
        if importing.search(path.read_text())
    }
    assert found == {"testbed"}


def test_without_flask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_is_there", lambda module: module != "flask")
    with pytest.raises(ConfigError) as caught:
        Registry().component("serve", "webmail.testbed")
    said = "`webmail.testbed` needs flask: pip install 'mailflow[testbed]'"
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("text", "name", "changes"),
    [
        ("slow", "slow", {}),
        ("slow:seconds=0.5", "slow", {"seconds": 0.5}),
        ("error:after=3,times=1", "error", {"after": 3, "times": 1}),
        ("error:at=list+source", "error", {"at": ("list", "source")}),
    ],
)
def test_a_trouble_is_written_with_when_and_where(
    text: str, name: str, changes: dict[str, Any]
) -> None:
    assert read(text) == (name, changes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("eror", "there is no trouble 'eror'; did you mean `error`?"),
        ("error:5", "expected after=N, times=N, seconds=N or at=STEP, not '5'"),
        ("error:often=5", "expected after=N, times=N, seconds=N or at=STEP, not 'often=5'"),
        ("error:after=x", "expected a number, not 'x'"),
        ("error:at=moon", f"expected steps of {', '.join(STEPS)}, not 'moon'"),
    ],
)
def test_a_trouble_that_cannot_be_read_says_what_was_expected(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        read(text)


def test_a_trouble_strikes_where_and_when_it_says() -> None:
    troubles = Troubles()
    assert troubles.strikes("error", "list") is None
    troubles.add("error", at=("list",), after=1, times=2)
    assert troubles.strikes("error", "source") is None
    struck = [troubles.strikes("error", "list") is not None for _ in range(4)]
    assert struck == [False, True, True, False]
    troubles.add("error")
    troubles.end("error")
    assert troubles.strikes("error", "list") is None


def test_the_components_of_the_plugin_tell_of_it(shop: Shop) -> None:
    (told,) = json.loads(shop("plugins", "webmail.testbed", "--json").out)
    assert (told["use"], told["kind"]) == ("webmail.testbed", "service")
