"""What a pipeline is once its file was read: steps with their options, ready to be made.

Rule of the file: the engine's own keys are declared here, as options like those of a
component, so that one declaration gives their checks and their docs.
"""

from __future__ import annotations

from collections.abc import Mapping

from mailflow.options import (
    FOREVER,
    Choice,
    Duration,
    Flag,
    Integer,
    ListOf,
    Options,
    Secret,
    SecretValue,
    Text,
)
from mailflow.options import Path as PathOption
from mailflow.options import Query as QueryOption
from mailflow.query import Query
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailflow.toml_file import FileFault

DAY = 86400.0


class FetchStep(NamedTuple):
    """One [[fetch]]: `where` and the rest are the engine's, `options` the component's."""

    name: str
    use: str
    component: type[Any]
    options: Options
    where: Query
    keep: float
    limit: int | None
    start: str | None
    every: float = 300.0
    auto: str = "yes"
    alarm_after: float = DAY


class ProcessStep(NamedTuple):
    """One [[process]]; no `when` is always."""

    name: str
    use: str
    component: type[Any]
    options: Options
    when: Query | None


class DistributeStep(NamedTuple):
    """One [[distribute]]; `if_in_doubt` is resend or hold."""

    name: str
    use: str
    component: type[Any]
    options: Options
    when: Query | None
    parallel: int
    if_in_doubt: str


class ReactStep(NamedTuple):
    """One [[react]]; no `when` is always."""

    name: str
    use: str
    component: type[Any]
    options: Options
    when: Query | None


class MaildropStep(NamedTuple):
    """One [maildrop.NAME]: `name` is the login name, or a glob over login names. `login` is
    secret or passthrough; `secret` is its own, `passwords` a file of many."""

    name: str
    use: str
    component: type[Any]
    options: Options
    secret: SecretValue | None
    passwords: str | None
    login: str
    aliases: tuple[str, ...]
    networks: tuple[str, ...]


class ServeStep(NamedTuple):
    """One [[serve]]; `workers` is how many processes share it, 0 for that of `serve`."""

    name: str
    use: str
    component: type[Any]
    options: Options
    workers: int


class Pipeline(NamedTuple):
    """One file. `base` is where its relative paths start, `journal` a file's path.

    `history` is how long the story of a mail is told after its end, `linger` how long
    the hook tries to deliver. `offline` and `local` say what `serve` fetches by itself.
    `warnings` are for `mailflow check`.
    """

    path: str
    name: str
    base: str
    journal: str
    history: float
    linger: float
    fetch: tuple[FetchStep, ...]
    process: tuple[ProcessStep, ...]
    distribute: tuple[DistributeStep, ...]
    react: tuple[ReactStep, ...]
    maildrop: tuple[MaildropStep, ...] = ()
    serve: tuple[ServeStep, ...] = ()
    offline: bool = False
    local: bool = False
    warnings: tuple[FileFault, ...] = ()


Step = FetchStep | ProcessStep | DistributeStep | ReactStep | MaildropStep | ServeStep


class PipelineOptions(Options):
    """[pipeline]"""

    name = Text.optional("What it is called; by default as its file.", least=1)
    journal = PathOption.optional(
        "The journal's file; by default under the user's state directory, by the file's name."
    )
    history = Duration("How long the story of a mail is kept after its end.", default=30 * DAY)
    linger = Duration(
        "How long `hook` tries to deliver before it leaves it to `run`.", default=20.0
    )
    offline = Flag("`serve` fetches nothing by itself, only what it is asked for.", default=False)
    local = Flag(
        'This machine is where the sources with auto = "local" are; best in defaults.toml.',
        default=False,
    )
    plugins = ListOf(
        "Plugins to load for their listeners; those that `use` names are loaded anyway.",
        Text("A plugin's name.", least=1), default=(),
    )  # fmt: skip


class StepOptions(Options):
    """What every step takes."""

    use = Text('The component: "plugin" or "plugin.component".', least=1)
    name = Text.optional("What the step is called; by default as `use`.", least=1)
    account = Text.optional("Take what is not set here from [account.NAME].", least=1)


class FetchOptions(StepOptions):
    """[[fetch]]"""

    where = QueryOption("Which messages are wanted.", default=Query.always)
    keep = Duration("How long a message stays at the source once it is ours.", default=FOREVER)
    limit = Integer.optional("How many messages a run fetches at most.", least=1)
    start = Choice.optional(
        'With a full mailbox at the first run: take "all", or only what is "new".', "all", "new"
    )
    every = Duration("How often `serve` fetches from it.", default=300.0)
    auto = Choice(
        "Whether `serve` fetches from it by itself; local: where [pipeline] local is true,"
        " global: where it is not.",
        "yes", "no", "local", "global", default="yes",
    )  # fmt: skip
    alarm_after = Duration(
        "How long it may fail, or stay unasked, before `serve` raises an alarm.", default=DAY
    )


class ProcessOptions(StepOptions):
    """[[process]]"""

    when = QueryOption.optional("Which mail it sees.")


class DistributeOptions(StepOptions):
    """[[distribute]]"""

    when = QueryOption.optional("Which mail it gets.")
    parallel = Integer("How many of it work at a time.", default=1, least=1, most=64)
    if_in_doubt = Choice(
        "After a crash in the one moment when nobody knows whether mail was taken.",
        "resend", "hold", default="resend",
    )  # fmt: skip


class ReactOptions(StepOptions):
    """[[react]]"""

    when = QueryOption.optional("Which troubles it is asked about.")


class MaildropOptions(Options):
    """[maildrop.NAME]; the name is the login name, or a glob such as "*@example.org"."""

    use = Text('The component: "plugin" or "plugin.component".', least=1)
    account = Text.optional("Take what is not set here from [account.NAME].", least=1)
    login = Choice(
        "Who checks the password: we by the stored secret, or the back end that it is passed to.",
        "secret", "passthrough", default="secret",
    )  # fmt: skip
    secret = Secret.optional("The password, or what `mailflow maildrop hash` made of it.")
    passwords = PathOption.optional(
        "A file of secrets by login name; by default the one that `mailflow maildrop add` writes."
    )
    aliases = ListOf(
        "Other names to log in by.", Text("A login name.", least=1), default=(),
    )  # fmt: skip
    networks = ListOf(
        "Where clients may come from; by default anywhere the listener is reached from.",
        Text('A network such as "127.0.0.0/8".', least=1), default=(),
    )  # fmt: skip


class ServeOptions(StepOptions):
    """[[serve]]"""

    workers = Integer(
        "Processes that share its clients; 0: the one that also fetches.",
        default=0, least=0, most=64,
    )  # fmt: skip


ENGINE: Mapping[str, tuple[type[Options], Any]] = {
    "fetch": (FetchOptions, FetchStep),
    "process": (ProcessOptions, ProcessStep),
    "distribute": (DistributeOptions, DistributeStep),
    "react": (ReactOptions, ReactStep),
    "maildrop": (MaildropOptions, MaildropStep),
    "serve": (ServeOptions, ServeStep),
}
"""The engine's own keys of each table, and the step that is made of it."""

NAMED = ("maildrop",)
"""Those that stand once for each name, [maildrop.ann], and not in an array."""

TABLES = ("pipeline", *ENGINE, "account")
