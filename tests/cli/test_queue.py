"""`mailflow queue` and `mailflow trace`: what waits, its story, and what a human decides."""

from __future__ import annotations

import json
import re

from mailflow.testing.smtp import SmtpSink

from .command import HOOK, MAIL, Shop

COMMANDS = (["show"], ["retry"], ["release"], ["drop", "--yes"])

HOLD = """
[[process]]
use = "filter.hold"
reason = "for olga: {header:Subject}"
"""

SMTP = """
[[fetch]]
use = "stdin"
sender = "ann@example.org"
recipients = ["bob@example.org", "cleo@example.org"]
[[distribute]]
use = "smtp"
host = "127.0.0.1"
port = {port}
tls = "none"
"""


def held(shop: Shop, count: int = 1) -> list[str]:
    """So many mails that are held; their ids."""
    file = shop.write(HOLD + HOOK)
    for number in range(count):
        assert shop("hook", file, stdin=MAIL.replace(b"one", b"m%d" % number)).status == 0
    return [entry["mail"] for entry in entries(shop)]


def entries(shop: Shop, *arguments: str) -> list[dict[str, object]]:
    done = shop("queue", "list", "--json", *arguments)
    assert done.status == 0
    found: list[dict[str, object]] = json.loads(done.out)
    return found


class TestList:
    def test_nothing_waits(self, shop: Shop) -> None:
        shop("hook", shop.write(HOOK), stdin=MAIL)
        assert entries(shop) == []
        assert shop("queue", "list").out == (
            "ID  PIPELINE  STATE  STEP  AGE  NEXT  FROM  TO  WHY\n"
        )

    def test_nothing_was_ever_run_here(self, shop: Shop) -> None:
        assert entries(shop) == []
        assert not (shop.home / "state").exists()

    def test_a_held_mail(self, shop: Shop) -> None:
        (mail,) = held(shop)
        line = shop("queue", "list").out.splitlines()[1]
        assert line.split()[:4] == [mail, "red", "held", "filter.hold"]
        assert line.endswith("for olga: m0")

    def test_the_shape_of_the_json(self, shop: Shop) -> None:
        (mail,) = held(shop)
        (entry,) = entries(shop)
        arrived = entry.pop("arrived")
        assert isinstance(arrived, float)
        assert entry == {
            "mail": mail, "pipeline": "red", "state": "held", "step": "filter.hold",
            "sender": None, "recipients": [], "due": 0.0, "attempt": 1,
            "reason": "for olga: m0", "busy": False,
        }  # fmt: skip

    def test_deliveries_of_one_mail_by_one_step_are_one_line(self, shop: Shop) -> None:
        done = shop("hook", shop.write(SMTP, port=1), stdin=MAIL)
        assert done.status == 0
        (entry,) = entries(shop)
        assert entry["state"] == "due"
        assert entry["recipients"] == ["bob@example.org", "cleo@example.org"]
        line = shop("queue", "list").out.splitlines()[1]
        assert "bob@example.org, cleo@example.org" in line
        assert re.search(r" in \d+s | next run ", line)

    def test_only_what_is_held(self, shop: Shop) -> None:
        held(shop)
        shop("hook", shop.write(SMTP, port=1), stdin=MAIL)
        assert len(entries(shop)) == 2
        assert [entry["state"] for entry in entries(shop, "--held")] == ["held"]

    def test_only_one_pipelines_journal(self, shop: Shop) -> None:
        held(shop)
        other = shop.home / "blue.toml"
        other.write_text(shop.path.read_text().replace("journal.db", "other.db"))
        assert len(entries(shop, "--file", shop.file)) == 1
        assert entries(shop, "--file", str(other)) == []

    def test_g08_what_a_mail_says_moves_no_cursor(self, shop: Shop) -> None:
        evil = MAIL.replace(b"one", b"\x1b[2J\xe2\x80\xae\x07 x")
        tag = '[[process]]\nuse = "filter.tag"\nnote = { said = "{header:X-Said}" }\n'
        said = b"X-Said: \xc2\x9b2J \xe2\x80\xae\n"
        shop("hook", shop.write(tag + HOLD + HOOK), stdin=said + evil)
        (entry,) = entries(shop)
        assert "\x1b" in str(entry["reason"]) or "\\x1b" in str(entry["reason"])
        mail = str(entry["mail"])
        for arguments in (
            ["queue", "list"], ["queue", "list", "--json"], ["queue", "show", mail],
            ["trace", mail], ["trace", "--json", mail],
        ):  # fmt: skip
            out = shop(*arguments).out
            assert not set(out) & set("\x1b\x9b\x07\u202e"), arguments

    def test_one_broken_journal_hides_no_other(self, shop: Shop) -> None:
        held(shop)
        other = shop.home / "blue.toml"
        other.write_text(shop.path.read_text().replace("journal.db", "other.db"))
        shop("hook", str(other), stdin=MAIL)
        (shop.home / "other.db").write_bytes(b"x" * 5000)
        for leftover in shop.home.glob("other.db-*"):
            leftover.unlink()
        done = shop("queue", "list")
        assert done.status == 74
        assert "for olga: m0" in done.out
        assert "other.db is damaged or no journal" in done.err


class TestNames:
    def test_the_beginning_of_an_id_is_enough(self, shop: Shop) -> None:
        (mail,) = held(shop)
        assert shop("queue", "show", mail[:14]).status == 0
        assert shop("trace", mail[:14]).status == 0

    def test_an_unknown_one_is_said_to_be_unknown(self, shop: Shop) -> None:
        held(shop)
        for command in COMMANDS:
            done = shop("queue", *command, "zzz")
            assert (done.status, done.out) == (64, "")
            assert "no mail waits here whose id begins with 'zzz'" in done.err

    def test_one_that_fits_two_is_not_guessed(self, shop: Shop) -> None:
        first, second = held(shop, 2)
        same = first[:3]
        assert second.startswith(same)
        for command in COMMANDS:
            done = shop("queue", *command, same)
            assert done.status == 64
            assert "the ids of 2 mails begin with" in done.err
        assert len(entries(shop)) == 2

    def test_an_empty_one_is_no_wildcard(self, shop: Shop) -> None:
        held(shop)
        for command in COMMANDS:
            done = shop("queue", *command, "")
            assert done.status == 64
            assert "empty" in done.err
        assert [entry["state"] for entry in entries(shop)] == ["held"]

    def test_an_odd_one_is_a_name_and_nothing_else(self, shop: Shop) -> None:
        held(shop)
        for name in ("%", "*", "'; DROP TABLE mail; --", "\x1b[2J"):
            done = shop("queue", "drop", "--yes", name)
            assert done.status == 64
            assert "\x1b" not in done.err
        assert len(entries(shop)) == 1


class TestShow:
    def test_envelope_and_header(self, shop: Shop) -> None:
        (mail,) = held(shop)
        out = shop("queue", "show", mail).out
        assert out.startswith(f"{mail}  arrived ")
        assert "envelope: none: it came without one, as from a mailbox" in out
        assert "Subject: m0" in out
        assert "hello" not in out

    def test_raw_is_the_message_octet_for_octet(self, shop: Shop) -> None:
        octets = MAIL + bytes(range(256)) + b"\r\n"
        shop("hook", shop.write(HOLD + HOOK), stdin=octets)
        (entry,) = entries(shop)
        child = shop.start("queue", "show", "--raw", str(entry["mail"]))
        out, _ = child.communicate(timeout=60)
        assert out == re.sub(rb"(?<!\r)\n", b"\r\n", octets)

    def test_a_copy_as_it_left_the_steps(self, shop: Shop) -> None:
        tag = '[[process]]\nuse = "filter.tag"\nheader = { X-Tag = "yes" }\n'
        shop("hook", shop.write(tag + HOLD + HOOK), stdin=MAIL)
        (entry,) = entries(shop)
        mail = str(entry["mail"])
        assert "X-Tag" not in shop("queue", "show", mail).out
        assert "X-Tag: yes" in shop("queue", "show", "--copy", "0", mail).out

    def test_a_copy_that_is_not_there(self, shop: Shop) -> None:
        (mail,) = held(shop)
        done = shop("queue", "show", "--copy", "9", mail)
        assert done.status != 0
        assert f"no copy 9 of mail {mail}" in done.err

    def test_why_it_waits_and_what_can_be_done(self, shop: Shop) -> None:
        (mail,) = held(shop)
        assert shop("queue", "show", mail).out.splitlines()[2:6] == [
            "held at filter.hold: for olga: m0",
            f"let it go on:   mailflow queue release {mail}",
            f"give it up:     mailflow queue drop {mail}",
            "",
        ]

    def test_why_deliveries_wait_and_until_when(self, shop: Shop) -> None:
        with SmtpSink() as sink:
            sink.on("RCPT", "550 5.1.1 no such user", match="bob@*")
            sink.on("RCPT", "450 4.2.0 later", match="cleo@*")
            shop("hook", shop.write(SMTP, port=sink.port), stdin=MAIL)
        mail = str(entries(shop)[0]["mail"])
        shown = shop("queue", "show", mail).out.splitlines()[2:7]
        assert re.fullmatch(r"due at smtp for cleo@example.org, in \d+s: 450 4.2.0 later", shown[0])
        assert shown[1] == "held at smtp for bob@example.org: 550 5.1.1 no such user"
        assert [line.split()[-2] for line in shown[2:]] == ["release", "retry", "drop"]

    def test_as_json(self, shop: Shop) -> None:
        (mail,) = held(shop)
        shown = json.loads(shop("queue", "show", "--json", mail).out)
        assert shown["mail"] == mail
        assert "Subject: m0" in shown["header"]
        assert [each["reason"] for each in shown["waits"]] == ["for olga: m0"]
        assert shown["size"] == len(MAIL.replace(b"\n", b"\r\n")) - 1


class TestFilters:
    def test_a_filter_chooses_by_step_reason_and_mail(self, shop: Shop) -> None:
        held(shop, 3)
        for arguments, found in (
            (["--reason", "OLGA: m1"], ["m1"]),
            (["--where", 'subject in ("m0", "m2")'], ["m0", "m2"]),
            (["--step", "filter.hold", "--where", 'subject is "m2"'], ["m2"]),
            (["--step", "other"], []),
            (["--where", 'note "x" exists'], []),
        ):
            reasons = [str(each["reason"]) for each in entries(shop, *arguments)]
            assert [reason.removeprefix("for olga: ") for reason in reasons] == found

    def test_what_is_held_and_fits_is_released(self, shop: Shop) -> None:
        mails = held(shop, 3)
        done = shop("queue", "release", "--where", 'not subject is "m1"')
        assert done.out == "".join(
            f"{mail}: goes on at the next run\n" for mail in (mails[0], mails[2])
        )
        assert [each["state"] for each in entries(shop)] == ["waiting", "held", "waiting"]

    def test_what_is_held_and_fits_is_dropped_after_one_question(self, shop: Shop) -> None:
        mails = held(shop, 3)
        done = shop("queue", "drop", "--reason", "m1", stdin=b"n\n")
        assert done.status == 130
        assert f"{mails[1]}  from ann@example.org: m1\n" in done.err
        assert mails[0] not in done.err
        assert shop("queue", "drop", "--all", "--yes").status == 0
        assert entries(shop) == []

    def test_a_dry_run_says_what_would_be_done_and_does_it_not(self, shop: Shop) -> None:
        (mail, _) = held(shop, 2)
        before = shop.rows("SELECT * FROM copy"), shop.rows("SELECT * FROM story")
        for command, said in (("release", "goes on at the next run"), ("drop", "dropped")):
            done = shop("queue", command, "--dry-run", "--reason", "m0")
            assert done.status == 0
            assert done.out == f"{mail}  from ann@example.org: m0: {said}, were this no dry run\n"
        assert (shop.rows("SELECT * FROM copy"), shop.rows("SELECT * FROM story")) == before

    def test_a_dry_run_promises_nothing_that_would_not_be_done(self, shop: Shop) -> None:
        shop("hook", shop.write(SMTP, port=1), stdin=MAIL)
        (entry,) = entries(shop)
        mail = str(entry["mail"])
        for more in (["--dry-run"], []):
            done = shop("queue", "release", *more, mail)
            said = "nothing of it is held; `mailflow queue retry` tries at once what waits"
            assert (done.status, done.out) == (0, f"{mail}: {said}\n")
        assert shop("queue", "retry", "--dry-run", mail).out.count("tried") == 1
        assert entries(shop) == [entry]

    def test_of_a_mail_only_what_is_held_at_that_step_is_meant(self, shop: Shop) -> None:
        """Two servers refuse one recipient each; one is mended, the other's mail dropped."""
        with SmtpSink() as one, SmtpSink() as two:
            for sink in (one, two):
                sink.on("RCPT", "550 5.1.1 no such user", match="bob@*", times=1)
            text = SMTP + SMTP.partition('cleo@example.org"]\n')[2]
            text = text.replace("{port}", str(one.port), 1).replace("{port}", str(two.port), 1)
            text = text.replace('use = "smtp"', 'use = "smtp"\nname = "one"', 1)
            file = shop.write(text)
            shop("hook", file, stdin=MAIL)
            assert [each["step"] for each in entries(shop)] == ["one", "smtp"]
            assert shop("queue", "release", "--step", "one").status == 0
            assert [each["state"] for each in entries(shop)] == ["due", "held"]
            assert shop("queue", "drop", "--yes", "--step", "smtp").status == 0
            assert [each["state"] for each in entries(shop)] == ["due"]
            assert shop("run", file).status == 0
            assert [message.recipients for message in one.messages] == [
                ("cleo@example.org",), ("bob@example.org",),
            ]  # fmt: skip
            assert len(two.messages) == 1

    def test_a_filter_drops_nothing_that_is_only_due(self, shop: Shop) -> None:
        shop("hook", shop.write(SMTP, port=1), stdin=MAIL)
        said = "there is no such mail; `mailflow queue list` shows what waits\n"
        assert shop("queue", "drop", "--yes", "--all").out == said
        assert [each["state"] for each in entries(shop)] == ["due"]

    def test_it_is_a_filter_or_ids(self, shop: Shop) -> None:
        (mail,) = held(shop)
        for command in ("release", "drop"):
            assert shop("queue", command).status == 64
            assert shop("queue", command, "--all", mail).status == 64
            assert shop("queue", command, "--step", "x", mail).status == 64
        assert [each["state"] for each in entries(shop)] == ["held"]

    def test_a_fault_of_the_expression_is_said(self, shop: Shop) -> None:
        done = shop("queue", "list", "--where", "siez < 3")
        assert done.status == 64
        assert "did you mean `size`?" in done.err
        assert "see --step and --reason" in shop("queue", "list", "--where", "attempt > 3").err

    def test_one_that_is_in_work_keeps_no_other_from_it(self, shop: Shop) -> None:
        mails = held(shop, 2)
        shop.change(f"UPDATE mail SET owner = 'somebody' WHERE id = '{mails[0]}'")
        done = shop("queue", "release", "--all")
        assert (done.status, done.out) == (75, f"{mails[1]}: goes on at the next run\n")
        assert f"{mails[0]} is in work just now" in done.err


class TestDeciding:
    def test_released_it_goes_on_at_the_next_run(self, shop: Shop) -> None:
        (mail,) = held(shop)
        assert shop("queue", "release", mail).out == f"{mail}: goes on at the next run\n"
        assert [entry["state"] for entry in entries(shop)] == ["waiting"]
        assert shop.maildir == []
        assert shop("run", shop.file).status == 0
        assert len(shop.maildir) == 1
        assert entries(shop) == []

    def test_dropped_it_is_gone_and_its_story_says_by_whom(self, shop: Shop) -> None:
        (mail,) = held(shop)
        assert shop("queue", "drop", "--yes", mail).status == 0
        assert entries(shop) == []
        assert shop.rows("SELECT count(*) FROM body") == [(0,)]
        assert shop("run", shop.file).status == 0
        assert shop.maildir == []
        assert "dropped" in shop("trace", mail).out
        assert "by hand" in shop("trace", mail).out

    def test_drop_asks_first(self, shop: Shop) -> None:
        (mail,) = held(shop)
        done = shop("queue", "drop", mail, stdin=b"n\n")
        assert done.status == 130
        assert len(entries(shop)) == 1
        assert shop("queue", "drop", mail, stdin=b"y\n").status == 0
        assert entries(shop) == []

    def test_several_at_once(self, shop: Shop) -> None:
        mails = held(shop, 3)
        assert shop("queue", "release", *mails[:2]).status == 0
        assert sorted(str(entry["state"]) for entry in entries(shop)) == [
            "held", "waiting", "waiting",
        ]  # fmt: skip

    def test_retry_makes_due_what_waits_for_its_time(self, shop: Shop) -> None:
        with SmtpSink() as sink:
            sink.on("RCPT", "451 4.7.1 greylisted", times=2)
            file = shop.write(SMTP, port=sink.port)
            shop("hook", file, stdin=MAIL)
            (entry,) = entries(shop)
            shop("run", file)
            assert sink.messages == []
            assert shop("queue", "retry", str(entry["mail"])).status == 0
            assert shop("run", file).status == 0
            assert len(sink.messages) == 1
        assert entries(shop) == []

    def test_where_there_is_nothing_to_do_it_says_so(self, shop: Shop) -> None:
        (mail,) = held(shop)
        said = "nothing of it waits for its time; `mailflow queue release` lets go on what is held"
        assert shop("queue", "retry", mail).out == f"{mail}: {said}\n"

    def test_a_delivery_that_was_refused_may_be_released(self, shop: Shop) -> None:
        with SmtpSink() as sink:
            sink.on("RCPT", "550 5.1.1 no such user", match="bob@*", times=1)
            file = shop.write(SMTP, port=sink.port)
            shop("hook", file, stdin=MAIL)
            (entry,) = entries(shop)
            assert (entry["state"], entry["recipients"]) == ("held", ["bob@example.org"])
            assert shop("queue", "release", str(entry["mail"])).status == 0
            assert shop("run", file).status == 0
            assert [message.recipients for message in sink.messages] == [
                ("cleo@example.org",), ("bob@example.org",),
            ]  # fmt: skip

    def test_a_mail_in_work_is_left_alone(self, shop: Shop) -> None:
        (mail,) = held(shop)
        shop.change("UPDATE mail SET owner = 'somebody'")
        for command in (["retry"], ["release"], ["drop", "--yes"]):
            done = shop("queue", *command, mail)
            assert done.status == 75
            assert f"{mail} is in work just now; try again" in done.err
        assert shop.rows("SELECT state FROM copy") == [("held",)]

    def test_an_mta_that_tries_again_what_was_dropped_hands_in_new_mail(self, shop: Shop) -> None:
        """A hook died, a human dropped its intent: the retry must not be answered with 0
        for nothing."""
        shop.plugin("toy", TOY)
        text = '[[process]]\nuse = "toy"\nact = "{act}"\n' + HOOK
        assert shop("hook", shop.write(text, act="die"), stdin=MAIL).status == -9
        (entry,) = entries(shop)
        assert entry["state"] == "intent"
        shop.write(text, act="pass")
        shop("run", shop.file)  # the mail of the dead is free
        shop("queue", "drop", "--yes", str(entry["mail"]))
        assert shop("hook", shop.file, stdin=MAIL).status == 0
        assert shop.maildir == [MAIL]
        assert entries(shop) == []


class TestTrace:
    def test_the_story_of_a_mail_from_its_arrival_to_its_end(self, shop: Shop) -> None:
        (mail,) = held(shop)
        shop("queue", "release", mail)
        shop("run", shop.file)
        done = shop("trace", mail)
        assert done.status == 0
        words = [line.split()[2:4] for line in done.out.splitlines()[3:]]
        assert words == [
            ["stdin", "arrived"], ["filter.hold", "hold"], ["released", "by"], ["maildir", "sent"],
        ]  # fmt: skip
        assert "for olga: m0" in done.out

    def test_a_mail_that_is_done_is_still_known(self, shop: Shop) -> None:
        shop("hook", shop.write(HOOK), stdin=MAIL)
        ((mail,),) = shop.rows("SELECT id FROM mail")
        story = json.loads(shop("trace", "--json", mail).out)[0]
        assert (story["mail"], story["state"], story["source"]) == (mail, "done", "stdin")
        assert [chapter["what"] for chapter in story["chapters"]] == ["arrived", "sent"]

    def test_one_that_fits_two_is_not_guessed(self, shop: Shop) -> None:
        file = shop.write(HOOK)
        for _ in range(2):
            shop("hook", file, stdin=MAIL)
        ((mail,), _) = shop.rows("SELECT id FROM mail")
        done = shop("trace", mail[:3])
        assert done.status == 64
        assert "the ids of 2 mails" in done.err

    def test_after_its_time_a_story_is_forgotten(self, shop: Shop) -> None:
        file = shop.write('history = "1d"\n' + HOOK)
        shop("hook", file, stdin=MAIL)
        ((mail,),) = shop.rows("SELECT id FROM mail")
        shop.change("UPDATE mail SET ended = ended - 86500")
        shop("run", file)
        done = shop("trace", mail)
        assert done.status == 64
        for table in ("mail", "delivery", "copy", "story"):
            assert shop.rows(f"SELECT count(*) FROM {table}") == [(0,)]

    def test_held_mail_is_never_forgotten(self, shop: Shop) -> None:
        held(shop)
        shop.write('history = "0d"\n' + HOLD + HOOK)
        shop.change("UPDATE mail SET arrived = 0")
        shop("run", shop.file)
        assert len(entries(shop)) == 1


TOY = """
import os, signal
from mailflow import hookimpl, Options
from mailflow.options import Text

class ToyOptions(Options):
    act = Text("What it does.")

class Toy:
    options = ToyOptions
    pure = True
    def __init__(self, options, runtime):
        self.act = options.act
    def process(self, mail, context):
        if self.act == "die": os.kill(os.getpid(), signal.SIGKILL)
        yield mail

@hookimpl
def mailflow_register(register):
    register.processor(Toy)
"""


class TestRetryAll:
    def test_all_that_waits_for_its_time_is_tried_at_the_next_run(self, shop: Shop) -> None:
        with SmtpSink() as sink:
            sink.on("RCPT", "450 4.2.0 later", times=2)
            file = shop.write(SMTP, port=sink.port)
            assert shop("hook", file, stdin=MAIL).status == 0
            assert shop("run", file).status == 0
            assert sink.messages == []
            assert "tried at the next run" in shop("queue", "retry", "--all").out
            assert shop("run", file).status == 0
            assert len(sink.messages) == 1

    def test_it_is_all_or_those_named(self, shop: Shop) -> None:
        assert shop("queue", "retry").status == 64
        assert shop("queue", "retry", "--all", "1k7").status == 64


class TestPeople:
    def test_mail_without_an_envelope_is_listed_by_its_header(self, shop: Shop) -> None:
        held(shop)
        line = shop("queue", "list").out.splitlines()[1]
        assert "<ann@example.org>" in line
        assert "bob@example.org" in line

    def test_what_is_dropped_is_shown_before_it_is_asked_for(self, shop: Shop) -> None:
        [mail] = held(shop)
        done = shop("queue", "drop", mail, stdin=b"n\n")
        assert f"{mail}  from ann@example.org: m0\n" in done.err
        assert [entry["mail"] for entry in entries(shop)] == [mail]

    def test_nothing_is_asked_about_a_mail_that_is_not_there(self, shop: Shop) -> None:
        done = shop("queue", "drop", "zzz", stdin=b"y\n")
        assert done.status == 64
        assert "Drop" not in done.out + done.err


class TestLines:
    def test_one_fault_of_a_server_is_one_line_whoever_it_hits(self, shop: Shop) -> None:
        with SmtpSink() as sink:
            sink.on("RCPT", "450 4.2.0 later")
            done = shop("hook", shop.write(SMTP, port=sink.port), stdin=MAIL)
        assert done.err.count("not sent") == 1
        assert "bob@example.org, cleo@example.org" in done.err

    def test_verbose_says_what_is_taken_and_sent(self, shop: Shop) -> None:
        with SmtpSink() as sink:
            sink.on("RCPT", "450 4.2.0 later", times=2)
            file = shop.write(SMTP, port=sink.port)
            shop("hook", file, stdin=MAIL)
            shop("queue", "retry", "--all")
            assert "sent" in shop("-v", "run", file).err
