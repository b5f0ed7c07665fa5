"""One mail to one server, where all goes well."""

from __future__ import annotations

ANN, BOB, CAT = "ann@example.org", "bob@example.org", "cat@example.org"


def test_a_mail_arrives_octet_for_octet(sink, distributor, send):
    data = b"Subject: x\r\n\r\n.\r\n..two\r\n.end\r\n\r\nplain\r\n"
    result = send(distributor(sink), ANN, data=data)
    assert result.outcome(ANN) == ("sent", "2.0.0")
    (message,) = sink.messages
    assert message.data == data
    assert message.sender == "red@example.org"
    assert message.recipients == (ANN,)


def test_two_recipients_cost_three_flights(sink, distributor, send):
    result = send(distributor(sink), ANN, BOB)
    assert [report.recipient for report in result.reports] == [ANN, BOB]
    # EHLO; MAIL with RCPTs and DATA; the content with its dot; QUIT comes later.
    assert sink.connections[0].flights == 3
    assert sink.violations == []
