"""Keys: the same message has the same one in every session, and no two share one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailflow_pop3.identity import catalogue, digest


def headers(numbers):
    return [(number, b"Subject: %d\r\n\r\n" % number) for number in numbers]


def same_headers(numbers):
    return [(number, b"Subject: same\r\n\r\n") for number in numbers]


def no_headers(numbers):
    raise AssertionError(f"asked for the headers of {numbers}")


def keys_of(found):
    return {number: key for key, number in found.numbers.items()}


LIST = b"1 10\r\n2 20\r\n3 30\r\n"


def test_a_key_is_the_uidl():
    found = catalogue(b"1 a\r\n2 b\r\n3 c\r\n", LIST, no_headers)
    assert found == ({"a": 1, "b": 2, "c": 3}, {1: 10, 2: 20, 3: 30}, {})


def test_f08_answers_out_of_order_are_put_in_order():
    found = catalogue(b"3 c\r\n1 a\r\n2 b\r\n", b"2 20\r\n3 30\r\n1 10\r\n", no_headers)
    assert list(found.numbers.items()) == [("a", 1), ("b", 2), ("c", 3)]


def test_f08_gaps_in_the_numbers_are_none():
    found = catalogue(b"2 b\r\n9 i\r\n", b"2 20\r\n9 90\r\n", no_headers)
    assert keys_of(found) == {2: "b", 9: "i"}


def test_f08_a_number_that_list_does_not_have_is_ignored():
    found = catalogue(b"1 a\r\n2 b\r\n3 c\r\n4 d\r\n", LIST, no_headers)
    assert keys_of(found) == {1: "a", 2: "b", 3: "c"}
    assert found.faults == {"UIDL names a message that LIST does not": 1}


def test_f08_a_message_without_a_uidl_is_told_by_its_header():
    found = catalogue(b"1 a\r\n3 c\r\n", LIST, headers)
    assert keys_of(found) == {1: "a", 2: "~" + digest(b"Subject: 2"), 3: "c"}
    assert found.faults == {"UIDL leaves out a message": 1}


def test_f08_without_uidl_all_are_told_by_their_headers():
    found = catalogue(None, LIST, headers)
    assert keys_of(found) == {n: "~" + digest(b"Subject: %d" % n) for n in (1, 2, 3)}
    assert not found.faults


def test_f08_without_list_there_are_no_sizes():
    assert catalogue(b"1 a\r\n2 b\r\n", None, no_headers)[:2] == ({"a": 1, "b": 2}, {})


def test_f08_an_id_that_is_none_is_hashed():
    for bad in (b"x" * 71, b"two words", b"caf\xc3\xa9", b"a\tb", b"a\0b"):
        keys = catalogue(b"1 " + bad + b"\r\n2 b\r\n3 c\r\n", LIST, no_headers)
        assert keys_of(keys)[1].startswith("~")
        assert len(keys_of(keys)[1]) == 41
        assert keys == catalogue(b"1 " + bad + b"\r\n2 b\r\n3 c\r\n", LIST, no_headers)


def test_f08_lines_that_are_none_are_counted_and_skipped():
    found = catalogue(
        b"1 a\r\nx y\r\n2\r\n1 z\r\n2 b\r\n3  c \r\n", b"1 10\r\n\r\nno\r\n" + LIST, no_headers
    )
    assert keys_of(found) == {1: "a", 2: "b", 3: "c"}
    assert found.faults == {"a line of UIDL cannot be read": 3, "a line of LIST cannot be read": 2}


def test_f08_a_size_that_is_none_is_not_known():
    assert catalogue(
        b"1 a\r\n2 b\r\n3 c\r\n", b"1 x\r\n2 -5\r\n3 7 more\r\n", no_headers
    ).sizes == {3: 7}


def test_f06_duplicates_are_told_apart_by_their_headers():
    found = catalogue(b"1 same\r\n2 same\r\n3 c\r\n", LIST, headers)
    one, two = (f"same~{digest(b'Subject: %d' % n)}" for n in (1, 2))
    assert keys_of(found) == {1: one, 2: two, 3: "c"}
    assert found.faults == {"UIDL gives one id to several messages": 2}


def test_f06_equal_duplicates_are_numbered():
    found = catalogue(b"1 same\r\n2 same\r\n3 same\r\n", LIST, same_headers)
    stem = f"same~{digest(b'Subject: same')}"
    assert keys_of(found) == {1: stem, 2: f"{stem}~2", 3: f"{stem}~3"}


def test_f06_a_duplicate_that_is_gone_has_no_key():
    found = catalogue(b"1 same\r\n2 same\r\n3 c\r\n", LIST, lambda numbers: headers(numbers[:1]))
    assert keys_of(found) == {1: f"same~{digest(b'Subject: 1')}", 3: "c"}


def test_f06_an_id_that_looks_like_a_made_key_shares_none():
    made = f"same~{digest(b'Subject: 1')}".encode()
    found = catalogue(b"1 same\r\n2 same\r\n3 " + made + b"\r\n", LIST, headers)
    assert len(found.numbers) == 3


def test_a_digest_does_not_see_what_servers_change():
    plain = b"From: a\r\nSubject: b\r\n"
    assert digest(plain) == digest(plain + b"\r\nbody")
    assert digest(plain) == digest(b"From: a\r\nStatus: RO\r\nX-Status: A\r\nSubject: b\r\n\r\n")
    assert digest(plain) != digest(b"From: a\r\nSubject: c\r\n")
    assert digest(plain) != digest(plain + b"X-Status-Code: 5\r\n")


listings = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from([b"a", b"b", b"", b"a b", b"~", b"x" * 80])),
    max_size=8,
).map(lambda rows: b"".join(b"%d %s\r\n" % row for row in rows))


@given(st.none() | listings, st.none() | listings, st.sets(st.integers(1, 6)))
def test_whatever_is_listed_each_key_is_of_one_message_and_stays(uidl, listing, gone):
    if uidl is None and listing is None:
        return

    def some(numbers):
        return [(n, b"Subject: x\r\n\r\n") for n in numbers if n not in gone]

    found = catalogue(uidl, listing, some)
    assert len(set(found.numbers.values())) == len(found.numbers)
    assert "" not in found.numbers
    assert all(found.numbers.values())
    assert found == catalogue(uidl, listing, some)
