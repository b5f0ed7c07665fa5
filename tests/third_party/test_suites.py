"""The suites find what they are for: a plugin that breaks a promise fails the test of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from mailflow.testing import kill
from mailflow.testing.power import obstacle

from .conftest import PIGEON, Nursery


class Mutant(NamedTuple):
    """A careless edit of the plugin, and the test that must fail for it."""

    file: str
    before: str
    after: str
    test: str


MUTANTS = [
    Mutant("fetcher", "if fate is Fate.DONE:", "if True:", "test_what_is_not_done_stays"),
    Mutant("fetcher", "os.unlink(self._path(key))", "pass",
           "test_what_is_settled_is_gone_and_nothing_else"),
    Mutant("fetcher", "with suppress(FileNotFoundError):\n                os.unlink",
           "if True:\n                os.unlink", "test_to_settle_twice_is_to_settle_once"),
    Mutant("fetcher", "return Octets(to_crlf(file.read()))", "return Octets(file.read())",
           "test_line_ends_are_crlf_and_sizes_are_right"),
    Mutant("fetcher", "copy.writelines(map(to_crlf, file))", "copy.write(file.read(IN_MEMORY))",
           "test_a_large_message_arrives_whole"),
    Mutant("fetcher", "yield Missed(key, GoneError(", "print((",
           "test_a_message_that_is_lost_is_missed_or_ends_the_session"),
    Mutant("fetcher", "[Item(name) for name in names", "[Item(name + self.__dict__.setdefault("
           "'salt', os.urandom(2).hex())) for name in names",
           "test_keys_are_the_same_in_every_session"),
    Mutant("fetcher", "section = head(Octets(to_crlf(file.read(HEADER_LIMIT + 1))))",
           "section = to_crlf(file.read(HEADER_LIMIT + 1))", "test_heads_are_the_header_sections"),
    Mutant("fetcher", 'with open(self._path(key), "rb") as file:\n            size',
           'file = open(self._path(key), "rb")\n        if vars(self).setdefault(key, file):\n'
           "            size", "test_a_session_that_fails_leaves_nothing_open"),
    Mutant("distributor", 'f"{ticket.key}.eml"', 'f"{os.urandom(8).hex()}.eml"',
           "test_a_ticket_twice_leaves_one_copy_or_was_committed"),
    Mutant("distributor", "        try:\n            with open(hidden",
           '        yield Report("", SENT)\n        try:\n            with open(hidden',
           "test_what_is_reported_is_there_already"),
    Mutant("distributor", 'f".{ticket.key}", ', 'f"{ticket.key}.eml", ',
           "test_content_that_cannot_be_read_to_its_end_is_not_delivered"),
    Mutant("distributor", "file.writelines(chunks(mail.content))",
           "file.write(next(chunks(mail.content)))", "test_a_large_mail_arrives_whole"),
    Mutant("distributor", "file.writelines(chunks(mail.content))",
           "file.write(mail.content.open().read().strip())",
           "test_the_octets_arrive_as_they_are"),
    Mutant("distributor", "    def __exit__(self, kind, error, trace):\n        pass",
           "    def __exit__(self, kind, error, trace):\n        os.dup(0)",
           "test_a_session_leaves_nothing_open"),
    Mutant("once", 'yield Discard("another pigeon brought this message before")', "",
           "test_every_mail_gets_a_verdict"),
    Mutant("once", "if context.memory.get(key):",
           "if vars(self).setdefault(key, mail.id) != mail.id:",
           "test_it_remembers_by_the_context_alone"),
    Mutant("once", "pure = False", "pure = True", "test_a_pure_one_leaves_no_trace"),
    Mutant("rest", "return None  # the next reactor decides", "return Discard('tired')",
           "test_a_reaction_makes_sense"),
    Mutant("rest", "return Retry(self._options.after)", "return Retry(-1)",
           "test_a_reaction_makes_sense"),
    Mutant("rest", "if trouble.error.temporary:", "self.tries = vars(self).get('tries', 0) + 1\n"
           "        if self.tries > 3:", "test_asked_again_it_says_the_same"),
    Mutant("maildrop", "fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass",
           "test_a_second_session_is_refused_at_once_and_harms_nobody"),
    Mutant("maildrop", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB",
           "test_of_many_clients_at_once_one_is_let_in"),
    Mutant("maildrop", "finally:\n            os.close(self._lock)",
           "finally:\n            delete or os.close(self._lock)",
           "test_a_session_leaves_nothing_open"),
    Mutant("maildrop", "        except BlockingIOError:\n            os.close(lock)",
           "        except BlockingIOError:", "test_a_refused_login_leaves_nothing_open"),
    Mutant("maildrop", "if not who.checked:", "if False:",
           "test_who_was_not_checked_is_not_let_in"),
    Mutant("maildrop", "blake2b(os.fsencode(name), digest_size=12)",
           "blake2b(self._octets(name), digest_size=12)",
           "test_equal_messages_have_keys_of_their_own"),
    Mutant("maildrop", "digest_size=12).hexdigest()", "digest_size=64).hexdigest()",
           "test_a_key_is_a_unique_id_of_pop3"),
    Mutant("maildrop", "blake2b(os.fsencode(name), digest_size=12)",
           "blake2b(os.urandom(9), digest_size=12)", "test_keys_are_the_same_in_every_session"),
    Mutant("maildrop", "key = blake2b(os.fsencode(name), digest_size=12).hexdigest()",
           'key = f"{len(self._items)}"', "test_a_key_stays_when_other_messages_come_and_go"),
    Mutant("maildrop", "sorted(os.listdir(loft))", "sorted(os.listdir(loft), reverse=True)",
           "test_messages_are_numbered_as_they_came"),
    Mutant("maildrop", "        return self._items\n",
           "        return OpenLoft(self._loft, os.dup(self._lock))._items\n",
           "test_a_listing_is_a_sequence_that_stays"),
    Mutant("maildrop", "len(self._octets(name))", "os.stat(os.path.join(loft, name)).st_size",
           "test_a_size_is_exact"),
    Mutant("maildrop", "octets = to_crlf(file.read())", "octets = file.read()",
           "test_the_octets_are_served_as_they_are"),
    Mutant("maildrop", "to_crlf(file.read())", "to_crlf(file.read(1 << 20))",
           "test_a_large_message_is_served_whole"),
    Mutant("maildrop", "return Octets(self._octets(self._names[key]))",
           "names = sorted(os.listdir(self._loft))\n            "
           "return Octets(self._octets(names[1:][list(self._names).index(key)]))",
           "test_a_message_that_is_lost_harms_no_other"),
    Mutant("maildrop", "for key in delete)", "for key in self._names)",
           "test_what_is_deleted_is_gone_and_nothing_else"),
    Mutant("maildrop", "if delete:", "for delete in [delete or list(self._names)]:",
           "test_without_a_quit_nothing_is_deleted"),
    Mutant("maildrop", "    for name in names:\n",
           "    for name in names and os.listdir(loft):\n",
           "test_mail_that_came_meanwhile_is_not_deleted"),
    Mutant("service", "visit.start()", "visit.run()",
           "test_a_client_that_says_nothing_keeps_nobody_waiting"),
    Mutant("service", "client.shutdown(socket.SHUT_RDWR)", "pass",
           "test_it_ends_soon_when_it_is_told_to"),
    Mutant("service", "for number in (*by_number, halt.fileno()):", "for number in by_number:",
           "test_it_ends_soon_when_it_is_told_to"),
    Mutant("service", "        host.ready()\n", "", "test_once_it_is_ready_a_client_is_served"),
    Mutant("service", "        while not halt.is_set():\n",
           "        while not halt.is_set() or [each.close() for each in listening] == 0:\n",
           "test_the_sockets_stay_open_for_who_gave_them"),
    Mutant("service", "with suppress(OSError, KeyError):", "with suppress(KeyError):",
           "test_several_can_share_the_sockets"),
    Mutant("service", "with client, suppress(OSError):", "with suppress(OSError):",
           "test_when_it_has_ended_nothing_is_left_open"),
    Mutant("service", "return bind(self._options.listen)",
           "return [socket.create_server((each.host, each.port), reuse_port=True)"
           " for each in self._options.listen]",
           "test_an_address_that_is_taken_is_an_error_at_once"),
    Mutant("service", 'host.report({"clients": told})', 'host.report({told: "clients"})',
           "test_what_it_reports_are_facts_that_can_be_written_down"),
    Mutant("service", '.decode("utf-8", "replace")', '.decode("utf-8")',
           "test_a_rude_client_harms_nobody"),
    Mutant("service", "        entered.drop.close()\n", "",
           "test_a_drop_is_left_as_it_was_and_free"),
    Mutant("service", "entered.drop.close()",
           "entered.drop.close([item.key for item in entered.drop.items()])",
           "test_a_drop_is_left_as_it_was_and_free"),
    Mutant("service", "except MailflowError as error:", "except ZeroDivisionError as error:",
           "test_nobody_else_is"),
    Mutant("service", "host.accounts.enter(host.accounts.check(claim, where))",
           "vars(host).setdefault('old', host.accounts).enter(host.old.check(claim, where))",
           "test_after_a_reload_the_new_accounts_count"),
    Mutant("service", '        host.log.info("nobody', '        host.log.info(f"{claim[1]} nobody',
           "test_nobody_else_is"),
]  # fmt: skip

TRIES = 12
"""Which of two services comes first is up to the system: a race may be won by luck."""

LETHAL = [
    Mutant("distributor", 'f"{ticket.key}.eml"', 'f"{ticket.key}-{os.getpid()}.eml"', "times"),
    Mutant("fetcher", "size = os.fstat(file.fileno()).st_size",
           "size = os.fstat(file.fileno()).st_size\n            os.unlink(file.name)", "lost"),
    Mutant("distributor", "            flush_directory(loft)", "            pass", "lost"),
    Mutant("distributor", "os.fsync(file.fileno())", "pass", "lost"),
]  # fmt: skip


def broken(mutant: Mutant, target: Path) -> Path:
    """A copy of the plugin with the edit in it."""
    shutil.copytree(PIGEON / "mailflow_pigeon", target / "mailflow_pigeon")
    path = target / "mailflow_pigeon" / f"{mutant.file}.py"
    text = path.read_text()
    assert text.count(mutant.before) >= 1, "the plugin is not as the mutant knows it"
    path.write_text(
        text.replace(mutant.before, mutant.after).replace("Retry\n", "Discard, Retry\n")
    )
    return target


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: f"{each.file}-{each.test[5:]}")
def test_a_broken_promise_fails_its_test(nursery: Nursery, mutant: Mutant, tmp_path: Path) -> None:
    contracts = str(PIGEON / "tests" / "test_contracts.py")
    site, said = broken(mutant, tmp_path), ""
    for _ in range(TRIES):
        said = nursery(site, contracts, "-k", mutant.test)
        if "failed" in said:
            break
    assert "failed" in said, said


@pytest.mark.crash
@pytest.mark.timeout(300)
@pytest.mark.skipif(bool(kill.obstacle()), reason=kill.obstacle())
@pytest.mark.interop("xfsprogs", "e2fsprogs")
@pytest.mark.parametrize("mutant", LETHAL, ids=lambda each: f"{each.file}-{each.test}")
def test_a_plugin_that_is_not_safe_to_kill_is_found(
    nursery: Nursery, mutant: Mutant, tmp_path: Path
) -> None:
    """A harness that finds nothing proves nothing."""
    power = mutant.after.strip() == "pass"
    if power and obstacle():
        pytest.skip(obstacle())
    which = "power" if power else "step and not Once"
    kills = str(PIGEON / "tests" / "test_kills.py")
    said = nursery(broken(mutant, tmp_path), kills, "-k", which)
    assert "1 failed" in said
    assert mutant.test in said
    assert "killed in run 0" in said
