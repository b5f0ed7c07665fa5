"""Forms of a page, filled in as a browser would.

Rule of the file: hidden fields go as they came, a button goes only where it is pressed, and a
field that the form lacks is an error.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mailflow.errors import PeerError
from mailflow_webmail.definition.decoding import is_charset
from mailflow_webmail.errors import LayoutError

if TYPE_CHECKING:
    from bs4.element import Tag

    from mailflow_webmail.web.page import Page
    from mailflow_webmail.web.upload import Upload

_BUTTONS = "button, " + ", ".join(
    f'input[type="{kind}" i]' for kind in ("submit", "image", "button", "reset")
)

_OVERRIDING = (("formaction", "action"), ("formmethod", "method"), ("formenctype", "enctype"))


class Filled(NamedTuple):
    """What is sent: fields in the order of the page, `url` where to, in the page's encoding."""

    method: str
    url: str
    fields: list[tuple[str, str]]
    files: list[tuple[str, Upload]]
    multipart: bool
    charset: str = "utf-8"

    @property
    def values(self) -> list[tuple[str, bytes]]:
        """The fields as they are sent: what the encoding lacks, as browsers do, as `&#8364;`."""
        return [
            (name, value.encode(self.charset, "xmlcharrefreplace")) for name, value in self.fields
        ]


def filled(
    page: Page,
    css: str,
    fill: Mapping[str, str],
    click: str | None,
    files: Mapping[str, Sequence[Upload]],
) -> Filled | None:
    """The first form that matches; None where none does. Raises LayoutError, PeerError."""
    import mechanicalsoup

    found = page.soup.select_one(css)
    if found is None:
        return None
    tag = copy.copy(found)  # others may look at the page
    pressed = _pressed(tag, css, click)
    form = mechanicalsoup.Form(tag)
    for name, value in fill.items():
        _set(form, css, name, value)
    inputs = tag.select('input[type="file" i]')
    for name in files.keys() - {str(each.get("name")) for each in inputs}:
        raise LayoutError(f"the form {css} has no field {name!a} for a file")
    for each in inputs:
        each.decompose()
    uploads = [(name, each) for name, several in files.items() for each in several]
    method, url, fields = _collected(tag, page.url, css)
    multipart = str(tag.get("enctype", "")).lower() == "multipart/form-data"
    charset = _charset(tag.get_attribute_list("accept-charset"), page.charset)
    return Filled(method, url, [*fields, *pressed], uploads, multipart, charset)


def _charset(wanted: Iterable[str | None], of_page: str) -> str:
    """The one that the form wants, or that of its page (HTML, 4.10.21.5); never UTF-16 and such."""
    for name in (*wanted, of_page):
        if name is not None and is_charset(name) and " <=>".encode(name) == b" <=>":
            return name
    return "utf-8"


def _pressed(tag: Tag, css: str, click: str | None) -> list[tuple[str, str]]:
    """What the button sends; all buttons lose their names."""
    sent: list[tuple[str, str]] | None = None
    for button in tag.select(_BUTTONS):
        name = str(button.get("name", ""))
        if name and name == click and sent is None and not button.has_attr("disabled"):
            image = str(button.get("type", "")).lower() == "image"
            value = str(button.get("value", ""))
            sent = [(f"{name}.x", "1"), (f"{name}.y", "1")] if image else [(name, value)]
            for own, of_form in _OVERRIDING:
                if button.has_attr(own):
                    tag[of_form] = button[own]
        if button.has_attr("name"):
            del button["name"]
    if sent is None and click is not None:
        raise LayoutError(f"the form {css} has no button {click!a}")
    return sent or []


def _set(form: Any, css: str, name: str, value: str) -> None:
    from mechanicalsoup import LinkNotFoundError
    from soupsieve import SelectorSyntaxError

    boxes = form.form.find_all("input", {"name": name, "type": re.compile("^checkbox$", re.I)})
    if boxes and not value:
        form.uncheck_all(name)
        return
    try:
        form.set(name, value)
    except (LinkNotFoundError, SelectorSyntaxError):
        there = form.form.find(attrs={"name": name}) is not None
        lack = f"field {name!a} with that choice" if there else f"field {name!a}"
        raise LayoutError(f"the form {css} has no {lack}") from None


def _collected(tag: Tag, base: str, css: str) -> tuple[str, str, list[tuple[str, str]]]:
    """(method, address, fields)."""
    import mechanicalsoup

    try:
        what = mechanicalsoup.Browser.get_request_kwargs(tag, base)
    except ValueError:
        raise PeerError(f"the form {css} leads to an address that is none") from None
    method = str(what["method"]).upper()
    if method not in ("GET", "POST"):
        raise PeerError(f"the form {css} wants a method that is not known")
    found = what["params"] if method == "GET" else what["data"]
    url = str(what["url"])
    if method == "GET":  # its fields take the place of the query (HTML, 4.10.21.3)
        url = url.partition("#")[0].partition("?")[0]
    return method, url, [(str(name), str(value)) for name, value in found]
