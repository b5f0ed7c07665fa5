"""Which mailbox is meant: an [account.NAME] of a file, or a URL.

Rule of the file: what is wrong is told where it stands, before anybody is connected to.
"""

from __future__ import annotations

from collections.abc import Mapping

from mailflow.mailboxes.database import IN_MEMORY, Database
from mailflow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import ExitStack

    from mailflow.engine.registry import Registry
    from mailflow.halt import Halt
    from mailflow.kinds import Mailbox


def mailbox(  # mailflow.mailbox
    account: str,
    *,
    file: str | None = None,
    password: str | None = None,
    tables: Mapping[str, str] | None = None,
    max_size: float = IN_MEMORY,
    halt: Halt | None = None,
) -> Database:
    """The mailbox of an account, to be entered with `with`.

    `account` is the name of an [account.NAME] table, in `file` (a pipeline, by path or
    name) or in the user's or the system's defaults.toml; or a URL such as
    imaps://ann@imap.example.org. There, without `password`, it is that of ~/.netrc or where
    the URL says. `tables` and `max_size` are as for Database. Setting `halt` ends every
    wait. Raises ConfigError with what is wrong, PluginError where a plugin cannot be had.
    """
    found = Account.find(account, file=file, password=password)
    return Database(found, tables=tables, halt=halt, max_size=max_size)


class Account:
    """A mailbox that was found, and can be made."""

    def __init__(self, use: str, component: type[Any], options: Any) -> None:
        self.use = use
        self._component = component
        self.options = options

    @classmethod
    def find(
        cls,
        account: str,
        *,
        file: str | None = None,
        password: str | None = None,
        registry: Registry | None = None,
    ) -> Account:
        """As `mailbox` says."""
        from mailflow.engine.registry import Registry

        registry = registry or Registry()
        if ":" in account:
            from mailflow.engine.urls import read

            named = read(account, "account", registry, password=password)
            return cls(named.use, named.component, named.options)
        from mailflow.engine.account import read_account

        return cls(*read_account(account, registry, file))

    def made(self, stack: ExitStack, given: Halt | None) -> Mailbox:
        """The mailbox, not entered yet; what it needs is closed by `stack`."""
        from tempfile import TemporaryDirectory

        from mailflow.halt import Halt
        from mailflow.kinds import Runtime
        from mailflow.log import get_logger

        halt = given
        if halt is None:
            halt = Halt()
            stack.callback(halt.close)
        scratch = stack.enter_context(TemporaryDirectory(prefix="mailflow-"))
        runtime = Runtime("mail", "python", halt, get_logger(step=self.use), scratch)
        made: Mailbox = self._component(self.options, runtime)
        return made


__all__ = ["Account", "mailbox"]
