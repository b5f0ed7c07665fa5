"""A record is a named tuple in all that the project does with one."""

from __future__ import annotations

import copy
import pickle

import pytest

from mailflow.record import NamedTuple


class Point(NamedTuple):
    """A place."""

    x: int
    name: str = "here"

    def twice(self) -> int:
        return self.x * 2


def test_it_is_a_tuple_with_names_defaults_and_methods():
    point = Point(1)
    assert point == (1, "here")
    assert (point.x, point.name, point.twice()) == (1, "here", 2)
    assert repr(point) == "Point(x=1, name='here')"
    assert Point._fields == ("x", "name")


def test_it_is_made_by_position_or_name():
    assert Point(1, "there") == Point(name="there", x=1) == Point(1, name="there")


@pytest.mark.parametrize(
    "make",
    [lambda: Point(), lambda: Point(1, "a", 3), lambda: Point(1, x=2), lambda: Point(1, y=2)],
)
def test_wrong_arguments_are_a_type_error(make):
    with pytest.raises(TypeError, match=r"Point\(\)"):
        make()


def test_it_is_replaced_and_never_changed():
    assert Point(1)._replace(name="there") == (1, "there")
    with pytest.raises(ValueError, match="unexpected"):
        Point(1)._replace(y=2)
    with pytest.raises(AttributeError):
        Point(1).x = 2
    assert not hasattr(Point(1), "__dict__")


def test_it_is_copied_pickled_hashed_matched_and_unpacked():
    point = Point(1)
    assert type(copy.copy(point)) is Point
    assert pickle.loads(pickle.dumps(point)) == point
    assert hash(point) == hash((1, "here"))
    assert point._asdict() == {"x": 1, "name": "here"}
    match point:
        case Point(x, name="here"):
            assert x == 1
        case _:
            pytest.fail("no match")
