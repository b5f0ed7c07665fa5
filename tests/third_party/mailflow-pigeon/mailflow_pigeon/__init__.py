"""Carrier pigeons: a loft is a directory, and each pigeon in it a file with one message."""

from mailflow import hookimpl


@hookimpl
def mailflow_register(register):
    register.fetcher("mailflow_pigeon.fetcher:PigeonFetcher")
    register.distributor("mailflow_pigeon.distributor:PigeonDistributor")
    register.processor("mailflow_pigeon.once:OnceProcessor", "once")
    register.reactor("mailflow_pigeon.rest:RestReactor", "rest")
    register.maildrop("mailflow_pigeon.maildrop:PigeonMaildrop")
    register.service("mailflow_pigeon.service:PigeonService")


@hookimpl
def mailflow_commands(group):
    from mailflow_pigeon.commands import count, fly

    group.add_command(count)
    group.add_command(fly)


@hookimpl
def mailflow_event(event, facts):
    if event == "delivery.sent":
        from mailflow.log import get_logger

        get_logger(plugin="pigeon").info("a pigeon has landed", **facts)
