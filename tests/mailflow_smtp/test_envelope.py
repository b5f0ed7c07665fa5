"""What an envelope may say besides its addresses: DSN (RFC 3461) and VERP."""

from __future__ import annotations

import pytest

from mailflow import ConfigError
from mailflow.testing.smtp import EXTENSIONS, SmtpSink
from mailflow_smtp.settings import SmtpOptions
from mailflow_smtp.verp import DEFAULT, Verp

ANN, BOB, CAT = "ann@example.org", "bob@example.org", "cat@example.org"
SENT = ("sent", "2.0.0")


@pytest.fixture
def dsn():
    with SmtpSink(extensions=[*EXTENSIONS, "DSN"]) as sink:
        yield sink


# Delivery status notifications


def test_what_should_be_told_is_said_for_each_recipient(dsn, distributor, send):
    send(distributor(dsn, dsn_notify=("failure", "delay"), dsn_return="headers"), ANN, "a+b@x.org")
    (message,) = dsn.messages
    assert message.wishes == (
        ("NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;ann@example.org"),
        ("NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;a+2Bb@x.org"),
    )
    assert message.parameters[1:] == ("RET=HDRS", "ENVID=m1")


def test_a_word_in_utf8_has_no_original_recipient(dsn, distributor, send):
    send(distributor(dsn, dsn_notify=("never",)), "jürgen@example.org")
    assert dsn.messages[0].wishes == (("NOTIFY=NEVER",),)


def test_nothing_is_said_that_nobody_asked_for(dsn, distributor, send):
    send(distributor(dsn), ANN)
    assert (dsn.messages[0].wishes, len(dsn.messages[0].parameters)) == (((),), 1)


def test_d14_a_server_without_dsn_gets_the_mail_all_the_same(sink, distributor, send):
    result = send(distributor(sink, dsn_notify=("success",), dsn_return="full"), ANN)
    assert result.outcome(ANN) == SENT
    assert (sink.messages[0].wishes, len(sink.messages[0].parameters)) == (((),), 1)


def test_never_stands_alone():
    with pytest.raises(ConfigError, match="alone"):
        SmtpOptions.read({"host": "x", "dsn_notify": ["never", "failure"]})


# A reverse-path for each recipient


def test_each_recipient_gets_a_sender_that_names_him(sink, distributor, send):
    smtp = distributor(sink, verp=Verp(DEFAULT))
    result = send(smtp, ANN, BOB, sender="red-bounces@example.com")
    assert {r.outcome.value for r in result.reports} == {"sent"}
    assert [(m.sender, m.recipients) for m in sink.messages] == [
        ("red-bounces+ann=example.org@example.com", (ANN,)),
        ("red-bounces+bob=example.org@example.com", (BOB,)),
    ]
    assert len(sink.connections) == 1


def test_the_address_may_have_another_form(sink, distributor, send):
    smtp = distributor(sink, verp=Verp("b-{to_domain}-{to_local}@bounces.{domain}"))
    send(smtp, ANN, sender="red@example.com")
    assert sink.messages[0].sender == "b-example.org-ann@bounces.example.com"


def test_the_server_makes_them_where_it_offers_to(distributor, send):
    with SmtpSink(extensions=[*EXTENSIONS, "XVERP"]) as sink:
        result = send(distributor(sink, verp=Verp(DEFAULT)), ANN, BOB)
        assert {r.outcome.value for r in result.reports} == {"sent"}
        (message,) = sink.messages
        assert (message.sender, message.recipients) == ("red@example.org", (ANN, BOB))
        assert "XVERP=+=" in message.parameters


def test_a_form_that_the_server_does_not_know_is_made_here(distributor, send):
    with SmtpSink(extensions=[*EXTENSIONS, "XVERP"]) as sink:
        send(distributor(sink, verp=Verp("{local}+{to_local}={to_domain}@b.{domain}")), ANN, BOB)
        assert [message.sender for message in sink.messages] == [
            "red+ann=example.org@b.example.org", "red+bob=example.org@b.example.org"
        ]  # fmt: skip


def test_one_recipient_alone_needs_no_help(distributor, send):
    with SmtpSink(extensions=[*EXTENSIONS, "XVERP"]) as sink:
        send(distributor(sink, verp=Verp(DEFAULT)), ANN)
        assert sink.messages[0].sender == "red+ann=example.org@example.org"


def test_d20_a_bounce_keeps_its_empty_sender(sink, distributor, send):
    send(distributor(sink, verp=Verp(DEFAULT)), ANN, BOB, sender="")
    assert [(m.sender, m.recipients) for m in sink.messages] == [("", (ANN, BOB))]


@pytest.mark.parametrize("recipient", ["x" * 250 + "@y", '"a b"@example.org'])
def test_an_address_that_cannot_bear_it_keeps_the_mails_own(recipient):
    assert Verp(DEFAULT).sender("red@example.org", recipient) == "red@example.org"


@pytest.mark.parametrize(
    "form", ["", "red@example.org", "{to_local}@{domain}", "{who}+{to_local}={to_domain}@x",
             "{to_local}{to_domain}", "{to_local}={to_domain}@a@b", "{to_local={to_domain}@b"]
)  # fmt: skip
def test_a_form_that_tells_nobody_apart_is_a_fault_of_the_file(form):
    with pytest.raises(ConfigError, match="verp"):
        SmtpOptions.read({"host": "x", "verp": form})


def test_a_form_that_not_every_server_takes_is_a_fault_of_the_file():
    with pytest.raises(ConfigError, match="xn--"):
        SmtpOptions.read({"host": "x", "verp": "{local}+{to_local}={to_domain}@ex\xe4mple.org"})


def test_true_and_false_are_the_usual_form_and_none():
    assert SmtpOptions.read({"host": "x", "verp": True}).verp.form == DEFAULT
    assert SmtpOptions.read({"host": "x", "verp": False}).verp is None


def test_pml_17_the_steps_sender_is_the_one_that_names_him(sink, distributor, send):
    """`sender` stands for the mail's own reverse-path; VERP is made of it."""
    smtp = distributor(sink, sender="bounces@lists.example.org", verp=Verp(DEFAULT))
    send(smtp, ANN, sender="eve@example.com")
    assert sink.messages[0].sender == "bounces+ann=example.org@lists.example.org"


def test_a_reverse_path_that_is_refused_for_good_hits_its_recipient_alone(distributor, send):
    with SmtpSink() as sink:
        sink.on("MAIL", "501 5.1.7 too long", match="*ann=*")
        result = send(distributor(sink, verp=Verp(DEFAULT)), ANN, BOB)
        assert result.outcome(ANN) == ("failed", "5.1.7")
        assert result.outcome(BOB) == ("sent", "2.0.0")


def test_a_sender_who_may_send_no_more_for_now_asks_no_further(distributor, send):
    with SmtpSink() as sink:
        sink.on("MAIL", "450 4.7.1 too fast")
        result = send(distributor(sink, verp=Verp(DEFAULT)), ANN, BOB)
        assert result.outcome(ANN) == result.outcome(BOB) == ("later", "4.7.1")
        assert sum(command.startswith("MAIL") for command in sink.commands) == 1
