"""What mailflow.testing offers, and what it takes to import it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mailflow.testing as kit


@pytest.mark.parametrize("name", kit.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(kit, name)
    if callable(value):
        assert (value.__doc__ or "").strip(), f"{name} has no docstring"


def test_the_names_of_all_homes_are_public_and_no_other() -> None:
    assert sorted(kit._HOME_OF) == sorted(kit.__all__)
    assert set(kit.__all__) <= set(dir(kit))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'Pigeon'"):
        kit.Pigeon  # noqa: B018


def test_servers_faults_kills_and_mail_need_no_pytest() -> None:
    program = (
        "import sys; sys.modules['pytest'] = sys.modules['cryptography'] = None\n"
        "from mailflow.testing import AWKWARD, Fault, Pop3Server, Proxy, SmtpSink, Trip, watch\n"
        "from mailflow.testing import Desk, Disk, ImapServer, killed_before_each_step, mail\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_importing_it_loads_nothing() -> None:
    program = (
        "import sys, mailflow; before = set(sys.modules)\n"
        "import mailflow.testing\n"
        "assert {m for m in set(sys.modules) - before} <= {'mailflow.testing'}, sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
