"""A command on a terminal of a given width: a pseudo-terminal, and what it shows."""

import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Mapping, Sequence

from tests import commands

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def screen(arguments: Sequence[str], columns: int, environment: Mapping[str, str] | None = None) -> list[str]:
    """All lines that Python with these arguments wrote to a terminal so wide, in the order in which it wrote them; a
    line that was drawn again stands there again."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    environment = {**(environment or {}), "TERM": "xterm", "COLUMNS": "", "LINES": ""}
    process = commands.start(arguments, None, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    written = b""
    try:
        while block := os.read(master, 65536):
            written += block
    except OSError:  # Linux says so that the other end is closed
        pass
    os.close(master)
    assert process.wait(300) == 0, written.decode()
    return [line.rstrip() for line in re.split(r"[\r\n]+", CONTROL.sub("", written.decode()))]
