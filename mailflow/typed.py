"""The words of `typing` without its import, which would be a tenth of what a hook takes.

Rule of the file: to a type checker they are typing's own; when a program runs they mean
nothing, and nobody asks them.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import (
        IO,
        Any,
        BinaryIO,
        ClassVar,
        Generic,
        Literal,
        NoReturn,
        Protocol,
        Self,
        TextIO,
        TypeVar,
        cast,
        overload,
    )  # fmt: skip
else:

    class Generic:
        def __class_getitem__(cls, item):
            return cls

    class Protocol(Generic):
        pass

    IO = Any = BinaryIO = ClassVar = Literal = NoReturn = Self = TextIO = object

    def TypeVar(*_words, **_more):  # noqa: N802
        return object

    def cast(_kind, value):
        return value

    def overload(function):
        return function


__all__ = [
    "IO", "TYPE_CHECKING", "Any", "BinaryIO", "ClassVar", "Generic", "Literal", "NoReturn",
    "Protocol", "Self", "TextIO", "TypeVar", "cast", "overload",
]  # fmt: skip
