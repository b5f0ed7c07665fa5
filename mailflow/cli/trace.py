"""mailflow trace ID: one mail's story, from the journal."""

from __future__ import annotations

import click

from mailflow.cli.journals import find, opened, way
from mailflow.engine.journal import queue
from mailflow.tables import file_option, json_option, moment, say, show, show_json
from mailflow.values import counted


@click.command(name="trace")
@click.argument("mail", metavar="ID")
@file_option
@json_option
def command(mail: str, files: tuple[str, ...], as_json: bool) -> None:
    """Tell one mail's story: where it came from, what each step said, who has it.

    ID is its id, or the beginning of it; log lines and `queue list` show ids.
    """
    with opened(files) as journals:
        journal, identity = find(journals, mail, ended=True)
        story = journal.read(lambda tx: queue.story(tx, identity))
        if story is None:
            return  # it was forgotten just now
        if as_json:
            chapters = [each._asdict() for each in story.chapters]
            show_json([{**story._asdict(), "chapters": chapters}])
        else:
            tell(story)


def tell(story: queue.Story) -> None:
    """Print one story."""
    say(f"{story.mail}  {story.pipeline}  {story.state}  {counted(story.size, 'octet')}")
    say(f"envelope: {way(story.sender, story.recipients)}")
    for name, value in story.notes.items():
        say(f"note {name}: {value}")
    show(
        ("WHEN", "STEP", "WHAT", ""),
        ((moment(each.at), each.step, each.what, each.text) for each in story.chapters),
    )
