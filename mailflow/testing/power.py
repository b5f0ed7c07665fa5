"""A disk whose power can be cut: a file system in a file, mounted, shut down, mounted again.

Rule of the file: what the program under test had not flushed is gone after `cut`, as
after a real power cut; what is mounted is unmounted, whatever a test does.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path
from typing import Self

SIZE = 320 << 20
"""Octets: mkfs.xfs makes nothing smaller than 300 MiB. The file is sparse."""

PATIENCE = 5.0
"""Seconds to wait for a killed process, or the kernel, to be gone from a disk."""

_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32): EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN
_NO_LOG_FLUSH = 2


def obstacle(kind: str = "ext4") -> str:
    """Why no disk of that kind can be made here; "" if one can."""
    if os.geteuid() != 0:
        return "needs root: loop mounts"
    for tool in (f"mkfs.{kind}", "mount", "umount", "losetup"):
        if shutil.which(tool) is None:
            return f"needs {tool} (e2fsprogs, xfsprogs, mount)"
    if not os.path.exists("/dev/loop-control"):
        return "needs loop devices"
    return ""


class Disk:
    """A mounted file system; `path` is where. Errors: OSError, CalledProcessError."""

    def __init__(self, directory: Path, kind: str = "ext4", size: int = SIZE) -> None:
        self.kind = kind
        self.path = directory / f"{kind}.mounted"
        self._image = directory / f"{kind}.image"
        self._size = size
        self._device = ""

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True)
        with open(self._image, "wb") as image:
            image.truncate(self._size)
        _run(f"mkfs.{self.kind}", "-q", str(self._image))
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        if self._device:
            try:
                self._unmount()
            except subprocess.CalledProcessError:
                # Somebody still has a file open. The loop device goes with the last of them.
                _run("umount", "--lazy", str(self.path))
                _run("losetup", "--detach", self._device)
        self._image.unlink()

    def cut(self) -> None:
        """Power off and on. Nobody may still have a file open; see `off` and `on`."""
        self.off()
        self.on()

    def off(self) -> None:
        """From this instant nothing reaches the disk, not even the log; calls fail with EIO."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def on(self) -> None:
        """Mount what reached the disk: the log is replayed."""
        self.away()
        self._mount()

    def away(self) -> None:
        """Unmounted, where it is not: what is there is the directory beneath."""
        if self._device:
            self._unmount()

    def _mount(self) -> None:
        """On a loop device of its own: `mount -o loop` would take the one of the file
        system before, which goes away only after its umount has returned; and xfs says for
        as long that there are two of one UUID."""
        device = _run("losetup", "--find", "--show", str(self._image)).strip()
        try:
            _patiently("mount", "-t", self.kind, device, str(self.path))
        except BaseException:
            _run("losetup", "--detach", device)
            raise
        self._device = device

    def _unmount(self) -> None:
        """Waits a little for a killed process to be gone from it."""
        _patiently("umount", str(self.path))
        _run("losetup", "--detach", self._device)
        self._device = ""


def _patiently(*command: str) -> None:
    """Again and again, while the kernel is still busy with what was there before."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            _run(*command)
        except subprocess.CalledProcessError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
