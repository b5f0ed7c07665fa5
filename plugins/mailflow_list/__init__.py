"""Mailing lists: posts go to the members, and nothing comes round twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailflow.hooks import hookimpl

if TYPE_CHECKING:
    from mailflow.hooks import Register


@hookimpl
def mailflow_register(register: Register) -> None:
    from mailflow_list.post import Post

    register.processor(Post, "post")
