"""Say to whoever asks how many pigeons sit there for him."""

import select
import socket
import threading
from contextlib import suppress

from mailflow import MailflowError, Options
from mailflow.accounts import PasswordClaim
from mailflow.listening import Listen, bind
from mailflow.options import ListOf

PATIENCE = 60.0  # seconds for a client to say its line


class CooOptions(Options):
    listen = ListOf('Where it listens, such as "127.0.0.1:4711".', Listen("An address."))


class PigeonService:
    """Answers LOGIN PASSWORD, a line, with the number of messages in that maildrop."""

    options = CooOptions

    def __init__(self, options, runtime):
        self._options = options

    def listen(self):
        return bind(self._options.listen)

    def serve(self, host, listening, halt):
        visits = {}
        told = 0
        poller = select.poll()
        by_number = {each.fileno(): each for each in listening}
        for number in (*by_number, halt.fileno()):
            poller.register(number, select.POLLIN)
        host.ready()
        while not halt.is_set():
            for number, _ in poller.poll():
                with suppress(OSError, KeyError):  # another process took the client; or halt
                    client, address = by_number[number].accept()
                    visit = threading.Thread(target=coo, args=(host, halt, client, address))
                    visits[visit] = client
                    visit.start()
                    told += 1
            visits = {visit: client for visit, client in visits.items() if visit.is_alive()}
            host.report({"clients": told})
        for visit, client in visits.items():
            with suppress(OSError):  # it has gone
                client.shutdown(socket.SHUT_RDWR)
            visit.join()


def coo(host, halt, client, address):
    """One visit: a line, and its answer."""
    with client, suppress(OSError):
        client.settimeout(PATIENCE)
        with client.makefile("rb") as lines:
            words = lines.readline(300).decode("utf-8", "replace").split()
        answer = "say LOGIN PASSWORD"
        if len(words) == 2:
            where = address[0] if isinstance(address, tuple) else ""
            answer = count(host, halt, PasswordClaim(*words), where)
        client.sendall(f"{answer}\n".encode())


def count(host, halt, claim, where):
    try:
        entered = host.accounts.enter(host.accounts.check(claim, where))
        number = len(entered.drop.items())
        entered.drop.close()
    except MailflowError as error:
        host.log.info("nobody was let in", address=where, error=error)
        halt.wait(error.fields.get("delay", 0.0))  # who guesses passwords shall wait
        return "no"
    return f"{number} pigeons"
