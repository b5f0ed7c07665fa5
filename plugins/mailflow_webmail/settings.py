"""What the fetcher, the maildrop, the mailbox and the distributor of a webmail have in common."""

from __future__ import annotations

from mailflow.options import Duration, Integer, Options, Path, Secret, Size, Text


class WebmailOptions(Options):
    """Which webmail, where it is, who logs in, and how gently it is asked."""

    site = Text("The webmail's software: one that `mailflow webmail sites` lists.", least=1)
    url = Text("Where it is installed, as in the address of its login page.", least=1)
    user = Text("The login name.", least=1)
    password = Secret.optional("The password.")
    ca_file = Path.optional("A PEM file with the authorities to trust instead of the system's.")
    proxy = Text.optional('A proxy, such as "http://proxy:3128" or "socks5h://localhost:1080".')
    timeout = Duration("How long to wait for the webmail each time.", default=60.0)
    delay = Duration("How long to rest between two requests.", default=0.0)
    parallel = Integer("How many messages are loaded at once.", default=4, least=1, most=8)
    max_size = Size.optional("Messages of more octets stay where they are.")
