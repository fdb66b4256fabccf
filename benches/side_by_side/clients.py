"""Clients that wrk and h2load are not, each run as a process of its own, standard library only:

  resume PORT SECONDS PROCESSES          TLS connections that resume the session before, one request each
  idle PORT COUNT plain|tls              connections with one request each, kept until its input ends
  echo PORT                              a WebSocket origin: 101, then every byte back
  websocket PORT SECONDS CONNECTIONS SIZE   one frame under way on each connection

The last line of output is JSON, with latencies in milliseconds. Proxies do not look into
WebSocket frames, so the echo sends the bytes back as they are, mask and all.
"""

import base64
import hashlib
import json
import os
import select
import socket
import ssl
import struct
import sys
import time

CA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "certs", "ca.pem")
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
READ = 256 * 1024


def tell(requests, failures, seconds, latencies, **more):
    latencies.sort()
    at = lambda q: latencies[int(q * (len(latencies) - 1))] * 1000 if latencies else None
    print(json.dumps({"requests": requests, "failures": failures, "seconds": seconds,
                      "p50": at(0.5), "p99": at(0.99), **more}), flush=True)


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def tls_context():
    context = ssl.create_default_context(cafile=CA)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def one_resumer(port, seconds):
    """Of several: (latencies, failures, how many were not resumed)."""
    context, session, latencies, failures, full = tls_context(), None, [], 0, -1
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        try:
            with context.wrap_socket(connect(port), server_hostname="localhost", session=session) as tls:
                full += not tls.session_reused
                tls.sendall(b"GET /small HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = b""
                while part := tls.recv(4096):
                    answer += part
                # In TLS 1.3 the ticket comes after the handshake; by now it is here.
                session = tls.session
            failures += not (answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"x" * 128))
        except OSError:
            failures += 1
        latencies.append(time.monotonic() - began)
    return latencies, failures, max(full, 0)


def resume(port, seconds, processes):
    pipes = []
    for _ in range(processes):
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.close(reader)
            with os.fdopen(writer, "w") as out:
                json.dump(one_resumer(port, seconds), out)
            os._exit(0)
        os.close(writer)
        pipes.append(reader)
    latencies, failures, full = [], 0, 0
    for reader in pipes:
        with os.fdopen(reader) as file:
            some, failed, not_resumed = json.load(file)
        latencies += some
        failures += failed
        full += not_resumed
    tell(len(latencies), failures, seconds, latencies, not_resumed=full)


def idle(port, count, kind):
    context = tls_context()
    kept, latencies, failures, began = [], [], 0, time.monotonic()
    for _ in range(count):
        start = time.monotonic()
        try:
            stream = connect(port)
            if kind == "tls":
                stream = context.wrap_socket(stream, server_hostname="localhost")
            stream.sendall(b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"x" * 128):
                part = stream.recv(4096)
                if not part:
                    raise OSError("closed")
                answer += part
            kept.append(stream)
        except OSError:
            failures += 1
        latencies.append(time.monotonic() - start)
    tell(len(kept), failures, time.monotonic() - began, latencies)
    sys.stdin.read()


def upgrade(stream):
    """The client's half of the handshake."""
    stream.sendall(b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        part = stream.recv(1)
        if not part:
            raise OSError("closed in the handshake")
        head += part
    if not head.startswith(b"HTTP/1.1 101"):
        raise OSError(head.decode("latin-1"))


def frame(size):
    """A binary frame from a client; the mask is zero, so the payload is as it is."""
    if size < 126:
        head = struct.pack("!BB", 0x82, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x82, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x82, 0x80 | 127, size)
    return head + b"\0\0\0\0" + b"x" * size


def websocket(port, seconds, connections, size):
    message = memoryview(frame(size))
    poll, streams = select.epoll(), {}
    for _ in range(connections):
        stream = connect(port)
        upgrade(stream)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.setblocking(False)
        # What is still to send, what is still to come back, and since when.
        streams[stream.fileno()] = [stream, message, len(message), time.monotonic()]
        poll.register(stream, select.EPOLLIN | select.EPOLLOUT)
    latencies, failures, began = [], 0, time.monotonic()
    end = began + seconds
    while streams and time.monotonic() < end:
        for fd, event in poll.poll(1):
            state = streams[fd]
            try:
                if event & select.EPOLLOUT and state[1]:
                    state[1] = state[1][state[0].send(state[1]):]
                    if not state[1]:
                        poll.modify(fd, select.EPOLLIN)
                if event & ~select.EPOLLOUT:
                    part = len(state[0].recv(READ))
                    if not part:
                        raise ConnectionError
                    state[2] -= part
                    if state[2] <= 0:
                        now = time.monotonic()
                        latencies.append(now - state[3])
                        sent = state[0].send(message)
                        state[1:] = [message[sent:], len(message), now]
                        if state[1]:
                            poll.modify(fd, select.EPOLLIN | select.EPOLLOUT)
            except BlockingIOError:
                continue
            except OSError:
                failures += 1
                poll.unregister(fd)
                del streams[fd]
    tell(len(latencies), failures, time.monotonic() - began, latencies)


def answer_upgrade(stream):
    head = b""
    while b"\r\n\r\n" not in head:
        part = stream.recv(4096)
        if not part:
            raise OSError("closed in the handshake")
        head += part
    fields = (line.partition(b":")[::2] for line in head.split(b"\r\n")[1:])
    key = next(value.strip() for name, value in fields if name.lower() == b"sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    stream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")


def echo(port):
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    poll, streams = select.epoll(), {}
    poll.register(listener, select.EPOLLIN)
    while True:
        for fd, event in poll.poll():
            if fd == listener.fileno():
                stream = listener.accept()[0]
                try:
                    stream.settimeout(5)
                    answer_upgrade(stream)
                except (OSError, StopIteration):
                    stream.close()
                    continue
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stream.setblocking(False)
                streams[stream.fileno()] = [stream, b""]
                poll.register(stream, select.EPOLLIN)
                continue
            state = streams[fd]
            try:
                if not state[1]:
                    state[1] = memoryview(state[0].recv(READ))
                    if not state[1]:
                        raise ConnectionError
                state[1] = state[1][state[0].send(state[1]):]
                # Nothing is read before what came is sent back.
                poll.modify(fd, select.EPOLLOUT if state[1] else select.EPOLLIN)
            except BlockingIOError:
                poll.modify(fd, select.EPOLLOUT if state[1] else select.EPOLLIN)
            except OSError:
                poll.unregister(fd)
                streams.pop(fd)[0].close()


def main(name, *arguments):
    commands = {"resume": resume, "idle": idle, "echo": echo, "websocket": websocket}
    commands[name](*(int(one) if one.isdigit() else one for one in arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
