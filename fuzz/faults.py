"""What every fault of a TOML file must say."""

from __future__ import annotations

from mailflow.toml_file import ConfigFaults


def check(error: ConfigFaults, data: bytes) -> None:
    """Each has a line of the file, or none, and a text that a terminal can show."""
    last = data.count(b"\n") + data.count(b"\r") + 1
    assert error.faults
    for fault in error.faults:
        assert 0 <= fault.line <= last, fault
        assert fault.text
        assert str(fault).isprintable(), str(fault)
