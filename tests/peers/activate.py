"""Starts a program as a service manager does that passes sockets (socket activation).

    activate.py NAME=KIND… -- PROGRAM ARGUMENT…

Sockets of KIND tcp, udp, unix or bound (TCP that does not listen) are made on the loopback, told as
NAME=PORT on standard error, and given to PROGRAM, which takes the place of this process.
"""

import os
import socket
import sys
import tempfile

FIRST = 3


def make(kind):
    if kind == "unix":
        made = socket.socket(socket.AF_UNIX)
        made.bind(os.path.join(tempfile.mkdtemp(), "socket"))
        made.listen()
        return made, "unix"
    made = socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    made.bind(("127.0.0.1", 0))
    if kind == "tcp":
        made.listen()
    return made, made.getsockname()[1]


def main(arguments):
    end = arguments.index("--")
    wanted, program = arguments[:end], arguments[end + 1 :]
    names, numbers = [], []
    for word in wanted:
        name, kind = word.split("=")
        made, port = make(kind)
        names.append(name)
        # Out of the way of the numbers that they are to have.
        numbers.append(os.dup(made.fileno()) if made.fileno() > 100 else os.dup2(made.fileno(), 100 + len(numbers)))
        made.close()
        print(f"{name}={port}", file=sys.stderr, flush=True)
    for place, number in enumerate(numbers):
        os.dup2(number, FIRST + place)
        os.set_inheritable(FIRST + place, True)
        os.close(number)
    os.environ.update(
        LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=":".join(names)
    )
    os.execvp(program[0], program)


main(sys.argv[1:])
