"""Carrier pigeons: a loft is a directory, and each pigeon in it a file with one message."""

from mailflow import hookimpl


@hookimpl
def mailflow_register(register):
    from mailflow_pigeon.distributor import PigeonDistributor
    from mailflow_pigeon.fetcher import PigeonFetcher
    from mailflow_pigeon.once import OnceProcessor
    from mailflow_pigeon.rest import RestReactor

    register.fetcher(PigeonFetcher)
    register.distributor(PigeonDistributor)
    register.processor(OnceProcessor, "once")
    register.reactor(RestReactor, "rest")


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
