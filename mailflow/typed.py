"""The words of `typing` without its import, which would be a tenth of what a hook takes.

Rule of the file: to a type checker they are typing's own; when a program runs they mean
nothing, and nobody asks them.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import (
        IO as IO,
    )
    from typing import (
        Any as Any,
    )
    from typing import (
        BinaryIO as BinaryIO,
    )
    from typing import (
        ClassVar as ClassVar,
    )
    from typing import (
        Generic as Generic,
    )
    from typing import (
        Literal as Literal,
    )
    from typing import (
        NoReturn as NoReturn,
    )
    from typing import (
        Protocol as Protocol,
    )
    from typing import (
        Self as Self,
    )
    from typing import (
        TextIO as TextIO,
    )
    from typing import (
        TypeVar as TypeVar,
    )
    from typing import (
        cast as cast,
    )
    from typing import (
        overload as overload,
    )
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
