"""mailflow check FILE...: everything that is wrong with pipeline files, at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mailflow.tables import say

if TYPE_CHECKING:
    from mailflow.engine.pipeline import Pipeline


@click.command(name="check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--connect", is_flag=True, help="Log in to every server, and say what it offers.")
def command(files: tuple[str, ...], connect: bool) -> int:
    """Say everything that is wrong with pipeline files, and how they will run.

    Every secret is looked for, and the files that options name; nothing is connected to
    without --connect, and nothing is changed at a server with it. Ends with 78 where
    anything is wrong, else with the status of the first server that cannot be used.
    """
    from mailflow.engine.config import load
    from mailflow.engine.registry import Registry
    from mailflow.engine.supervisor import exit_status

    statuses: list[int] = []
    for pipeline in load(files, Registry(), thorough=True):
        for warning in pipeline.warnings:
            click.echo(f"mailflow: warning: {warning}", err=True)
        _describe(pipeline)
        if connect:
            statuses += _connect(pipeline)
    return exit_status(statuses)


def _connect(pipeline: Pipeline) -> list[int]:
    """Ask each server of a pipeline; gives the statuses of those that cannot be used."""
    from mailflow.engine.connect import ask, left_out, servers
    from mailflow.errors import MailflowError

    statuses = []
    for table, step in servers(pipeline):
        facts: list[str] = []
        failure = None
        try:
            ask(pipeline, step, facts)
        except MailflowError as error:
            failure = error
        begin = f"  {table:<10}  {step.name}"
        for fact in facts if facts or failure else ["answers"]:
            say(f"{begin}: {fact}")
        if failure is not None:
            statuses.append(failure.exit_code)
            say(f"{begin} cannot be used: {failure.text}", err=True)
    for drop, reason in left_out(pipeline):
        say(f"  maildrop    {drop.name}: not entered: {reason}")
    return statuses


def _describe(pipeline: Pipeline) -> None:
    from mailflow.engine.flow import why_common_way

    click.echo(f"{pipeline.path}: in order")
    for table, steps in (
        ("fetch", pipeline.fetch), ("process", pipeline.process),
        ("distribute", pipeline.distribute), ("react", pipeline.react),
        ("maildrop", pipeline.maildrop), ("serve", pipeline.serve),
    ):  # fmt: skip
        for step in steps:
            click.echo(
                f"  {table:<10}  {step.name}" + ("" if step.name == step.use else f" ({step.use})")
            )
    if not pipeline.fetch:
        return  # it only serves, and nothing is journalled
    click.echo(f"  journal     {pipeline.journal}")
    reason = why_common_way(pipeline)
    if reason:
        click.echo(f"  way         journal first: {reason}")
    else:
        click.echo(
            "  way         deliver first: every step can be repeated, so no body is written twice"
        )
    if _on_network_disk(pipeline.journal):
        click.echo(
            f"mailflow: warning: {pipeline.journal} is on a network file system, where the"
            " journal's locks cannot be relied on; set [pipeline] journal to a local disk",
            err=True,
        )


def _on_network_disk(path: str) -> bool:
    """Whether the directory that is or will be above `path` is mounted from elsewhere."""
    import os

    directory = os.path.dirname(path)
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    directory = os.path.realpath(directory)
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
            rows = [line.split()[1:3] for line in mounts]
    except OSError:
        return False
    above = [
        (len(point), kind)
        for point, kind in rows
        if directory == point or directory.startswith(point.rstrip("/") + "/")
    ]
    kind = max(above)[1] if above else ""
    return kind in ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "afs")
