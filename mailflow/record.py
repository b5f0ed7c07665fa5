"""NamedTuple for what the hook imports: a class costs 12 us to make instead of 90.

Rule of the file: to a type checker it is typing.NamedTuple, and it behaves as one, but
for a generic `__new__`: typing's writes and compiles one for each class, at import.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    from _collections import _tuplegetter

    class _Record(type):
        """Makes of a class with annotations a tuple with names."""

        def __new__(cls, name, bases, space):
            if not space.get("_root"):
                fields = tuple(space.get("__annotations__", ()))
                defaults = {field: space[field] for field in fields if field in space}
                for number, field in enumerate(fields):
                    space[field] = _tuplegetter(number, None)
                space.update(
                    __slots__=(), __match_args__=fields, _fields=fields, _field_defaults=defaults
                )
            return type.__new__(cls, name, bases, space)

    class NamedTuple(tuple, metaclass=_Record):
        """See typing.NamedTuple."""

        _root = True
        __slots__ = ()

        def __new__(cls, *values, **named):
            fields = cls._fields
            if named or len(values) != len(fields):
                values = _complete(cls, values, named)
            return tuple.__new__(cls, values)

        @classmethod
        def _make(cls, values):
            return cls(*values)

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, **changes):
            values = [changes.pop(field, self[i]) for i, field in enumerate(self._fields)]
            if changes:
                raise ValueError(f"Got unexpected field names: {list(changes)!r}")
            return tuple.__new__(type(self), values)

        def __getnewargs__(self):
            return tuple(self)

        def __repr__(self):
            inside = ", ".join(f"{field}={self[i]!r}" for i, field in enumerate(self._fields))
            return f"{type(self).__name__}({inside})"

    def _complete(cls, values, named):
        """All values, in order. Raises TypeError as a call with wrong arguments does."""
        whole = list(values)
        for field in cls._fields[len(values) :]:
            if field in named:
                whole.append(named.pop(field))
            elif field in cls._field_defaults:
                whole.append(cls._field_defaults[field])
            else:
                raise TypeError(f"{cls.__name__}() lacks the argument {field!r}")
        if named or len(whole) != len(cls._fields):
            raise TypeError(
                f"{cls.__name__}() takes {', '.join(cls._fields)}; got {list(named)} too"
            )
        return whole
