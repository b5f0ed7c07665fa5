"""`react.notify`: one mail for the first of many troubles."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest

from mailflow.errors import ConfigError, RefusedError, UnavailableError
from mailflow.kinds import Trouble
from mailflow.mail import Envelope, read
from mailflow.testing.engine import Desk, mail
from mailflow.verdicts import Hold
from mailflow_react.notify import NotifyReactor

DOWN = UnavailableError("pop.example.org: connection refused")
FETCH = Trouble("fetch", "pop3", DOWN, attempt=3, age=7200.0)


def made(desk: Desk, **table: object) -> Any:
    table.setdefault("to", "Olga <olga@example.org>")
    return NotifyReactor(NotifyReactor.options.read(table), desk.runtime)  # type: ignore[arg-type]


def notices(desk: Desk, reactor: Any, *troubles: Trouble) -> list[Any]:
    """The messages that were sent about these troubles, as a mail program reads them."""
    for trouble in troubles:
        assert desk.react(reactor, trouble) is None
    return [message_from_bytes(read(one.content), policy=default) for one, _ in desk.sent]


def test_a_notice_says_what_where_and_how_to_go_on() -> None:
    """PML-30: a reactor sees the mail."""
    desk = Desk("notify", pipeline="red-list")
    one = mail("From: Eve <eve@x.org>\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n\nbody\n")
    error = RefusedError("eve@x.org is not a member")
    trouble = Trouble("verdict", "list.post", error, one, verdict=Hold(error.text))
    (notice,) = notices(desk, made(desk), trouble)
    assert notice["Subject"] == "[mailflow] red-list: list.post holds a mail, which waits for you"
    assert notice["To"] == notice["From"] == "Olga <olga@example.org>"
    assert notice["Auto-Submitted"] == "auto-generated"
    text = notice.get_content()
    for said in ("eve@x.org is not a member", "Eve <eve@x.org>", "Grüße", one.id,
                 f"mailflow trace {one.id}", "mailflow queue list",
                 f"queue release {one.id}", f"queue drop {one.id}"):  # fmt: skip
        assert said in text
    assert "body" not in text


def test_a_source_that_is_down_is_told_without_a_mail() -> None:
    desk = Desk()
    (notice,) = notices(desk, made(desk), FETCH)
    text = notice.get_content()
    assert "connection refused" in text
    assert "Attempt 3, after 2 hours." in text
    assert "trace" not in text


def test_the_envelope_is_from_and_to_those_who_look_after_it() -> None:
    desk = Desk()
    one = made(desk, to=["a@x.org", "b@x.org"], **{"from": "red@example.org"}, via="smarthost")
    desk.react(one, FETCH)
    ((notice, via),) = desk.sent
    assert notice.envelope == Envelope("red@example.org", ("a@x.org", "b@x.org"))
    assert via == "smarthost"
    octets = read(notice.content)
    assert b"\n" not in octets.replace(b"\r\n", b"")


def test_of_many_troubles_of_one_kind_the_first_is_told_and_the_others_counted() -> None:
    desk = Desk()
    reactor = made(desk, every="1h")
    assert len(notices(desk, reactor, *[FETCH] * 50)) == 1
    desk.now += 3599
    assert len(notices(desk, reactor, FETCH)) == 1
    desk.now += 1
    _, second = notices(desk, reactor, FETCH)
    assert "50 more like this came since the last notice" in second.get_content()
    desk.now += 3600
    assert "more like this" not in notices(desk, reactor, FETCH)[-1].get_content()


def test_troubles_of_another_stage_or_step_are_told_as_well() -> None:
    desk = Desk()
    reactor = made(desk)
    one = mail("From: a@x.org\n\n")
    others = [Trouble("fetch", "other", DOWN), Trouble("process", "pop3", DOWN, one)]
    assert len(notices(desk, reactor, FETCH, *others, FETCH, *others)) == 3


def test_an_alarm_is_told_as_one_and_not_counted_with_the_failures_before_it() -> None:
    desk = Desk()
    error = UnavailableError("red@pop.example.org has not worked for 6 hours: down")
    alarm = Trouble("alarm", "pop3", error, attempt=36, age=6 * 3600.0)
    _, second = notices(desk, made(desk), FETCH, alarm)
    assert second["Subject"] == "[mailflow] pipeline: nothing has been fetched by pop3 for too long"
    assert "has not worked for 6 hours: down" in second.get_content()


def test_every_may_be_nothing() -> None:
    desk = Desk()
    assert len(notices(desk, made(desk, every=0), FETCH, FETCH, FETCH)) == 3


def test_a_clock_that_was_set_back_does_not_silence_it() -> None:
    desk = Desk()
    reactor = made(desk)
    notices(desk, reactor, FETCH)
    desk.now -= 10 * 86400
    assert len(notices(desk, reactor, FETCH)) == 2


def test_there_is_no_notice_about_a_notice() -> None:
    desk = Desk()
    reactor = made(desk)
    notices(desk, reactor, FETCH)
    ((notice, _),) = desk.sent
    trouble = Trouble("distribute", "smtp", DOWN, notice, ("olga@example.org",))
    assert len(notices(desk, reactor, trouble)) == 1


def test_many_recipients_are_named_in_part() -> None:
    desk = Desk()
    to = tuple(f"m{number}@x.org" for number in range(1000))
    trouble = Trouble("distribute", "smtp", DOWN, mail("From: a@x.org\n\n"), to)
    text = notices(desk, made(desk), trouble)[0].get_content()
    assert "m19@x.org and 980 more" in text
    assert "m20@x.org" not in text


@pytest.mark.parametrize("subject", ["=?utf-8?q?a=0D=0ABcc:_b?=", "a\rb\0", "x" * 5000])
def test_d18_a_mail_cannot_write_into_the_notice_about_it(subject: str) -> None:
    desk = Desk()
    one = mail(f"Subject: {subject}\nFrom: \udcff\n\n")
    error = RefusedError("no\r\nBcc: eve@x.org\x1b[2J" + "y" * 5000)
    trouble = Trouble("process", "a\nb", error, one, ("a@x.org",))
    (notice,) = notices(desk, made(desk), trouble)
    assert "Bcc" not in notice
    assert "\n" not in notice["Subject"]
    assert "\x1b" not in notice.get_content()
    assert len(notice.get_content()) < 3000
    assert not any(line.startswith("Bcc") for line in notice.get_content().splitlines())


def test_a_list_drops_a_notice_that_comes_to_it() -> None:
    from mailflow.automatic import generated

    desk = Desk()
    notices(desk, made(desk), FETCH)
    assert generated(desk.sent[0][0])


@pytest.mark.parametrize(
    ("table", "said"),
    [({"to": []}, "to: expected an address"), ({"to": "olga"}, "expected an address such as"),
     ({"to": "a@x.org", "every": "often"}, "every: expected a duration")],
)  # fmt: skip
def test_a_fault_is_said_before_it_runs(table: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(Desk(), **table)
    assert said in caught.value.text
