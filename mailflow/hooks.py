"""How a plugin meets the engine: one mark, five hooks.

A plugin is a module with one entry point in group `mailflow`:

    from mailflow import hookimpl

    @hookimpl
    def mailflow_register(register):
        from .fetcher import CarrierPigeon
        register.fetcher(CarrierPigeon)

Rule of the file: it does not import pluggy, so that a hook that runs once per
message does not pay for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mailflow.typed import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import click

    from mailflow.kinds import (
        Distributor,
        Fetcher,
        Mailbox,
        Maildrop,
        Processor,
        Reactor,
        Service,
    )
    from mailflow.query import Narrowing, Query

F = TypeVar("F", bound=Callable[..., object])


def hookimpl(function: F) -> F:
    """Mark an implementation of a hook, as pluggy.HookimplMarker("mailflow") does."""
    function.mailflow_impl = {}  # type: ignore[attr-defined]
    return function


class Register(Protocol):
    """Takes a plugin's components. `name` is the part after the dot of `use`;
    "" (the default) answers to the plugin's name alone. A component is a class, or
    "package.module:Class", which is imported when a pipeline first names it."""

    def fetcher(self, component: type[Fetcher] | str, name: str = "") -> None: ...
    def processor(self, component: type[Processor] | str, name: str = "") -> None: ...
    def distributor(self, component: type[Distributor] | str, name: str = "") -> None: ...
    def reactor(self, component: type[Reactor] | str, name: str = "") -> None: ...
    def maildrop(self, component: type[Maildrop] | str, name: str = "") -> None: ...
    def service(self, component: type[Service] | str, name: str = "") -> None: ...
    def mailbox(self, component: type[Mailbox] | str, name: str = "") -> None: ...


class Hooks:
    """The specifications, for pluggy."""

    def mailflow_register(self, register: Register) -> None:
        """Called once, when a pipeline first names the plugin, before files are checked.

        Import component classes inside it, not at the top of the module.
        """

    def mailflow_commands(self, group: click.Group) -> None:
        """Called when the command line names the plugin, as in `mailflow pop3 dl`.

        Add click commands to `group`, whose help text may be set too. Import them
        inside it. A plugin without commands has no such function.
        """

    def mailflow_testbeds(self, group: click.Group) -> None:
        """Called for `mailflow testbed`: servers that this plugin brings to try things with.

        Add a click command for each to `group`, under the name of what it stands for. A plugin
        without them has no such function.
        """

    def mailflow_explain(self, query: Query) -> Iterable[Narrowing]:
        """Called by `mailflow query explain`: how the servers of this plugin are asked.

        A plugin whose servers cannot search has no such function.
        """
        return ()

    def mailflow_event(self, event: str, facts: dict[str, object]) -> None:
        """Called after something durable happened, in the thread where it happened.

        `event` is one of run.started, run.ended, source.opened, source.closed,
        source.failed, mail.accepted, mail.verdict, mail.planned, delivery.sent,
        delivery.later, delivery.failed, mail.held, mail.done; under `serve` also
        serve.started, serve.reloaded, serve.ended, service.failed, source.alarm,
        source.mended. `facts` are strings and numbers: pipeline, step, mail, recipient and
        such. What it raises is logged.
        """


Hooks.mailflow_register.mailflow_spec = {"historic": True}  # type: ignore[attr-defined]
Hooks.mailflow_commands.mailflow_spec = {}  # type: ignore[attr-defined]
Hooks.mailflow_testbeds.mailflow_spec = {}  # type: ignore[attr-defined]
Hooks.mailflow_explain.mailflow_spec = {}  # type: ignore[attr-defined]
Hooks.mailflow_event.mailflow_spec = {}  # type: ignore[attr-defined]
