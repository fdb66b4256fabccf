"""A gRPC server and client for tests, on bare bytes: no generated code is needed.

    grpc_peer.py serve [PORT]    prints its port, serves until it is ended
    grpc_peer.py waits ADDRESS   one call with a deadline, and one more meanwhile; prints their ends as JSON
    grpc_peer.py call ADDRESS    calls everything, prints what came of it as JSON
"""

import json
import queue
import sys
import time
from concurrent import futures

import grpc


def unary(request, context):
    seen = dict(context.invocation_metadata())
    context.set_trailing_metadata((("x-trailer", seen.get("x-asked", "none")),))
    return request + b"!"


def fail(_, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "nothing of that name: 100 %")


def down(request, _):
    for number in range(int(request)):
        yield b"%d" % number


def up(requests, _):
    return b"%d" % sum(len(request) for request in requests)


def both(requests, _):
    for request in requests:
        yield request * 2


def slow(request, context):
    while context.is_active():
        time.sleep(0.01)
    return request


def check(request, context):
    """grpc.health.v1.Health/Check: the server serves, "down" does not, nothing else is known."""
    service = request[2:].decode()
    if service not in ("", "down"):
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return b"\x08\x01" if service == "" else b"\x08\x02"


HANDLERS = {
    "Check": grpc.unary_unary_rpc_method_handler(check),
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Down": grpc.unary_stream_rpc_method_handler(down),
    "Up": grpc.stream_unary_rpc_method_handler(up),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
}


class Service(grpc.GenericRpcHandler):
    def service(self, details):
        return HANDLERS.get(details.method.rpartition("/")[2])


def serve(port="0"):
    server = grpc.server(futures.ThreadPoolExecutor(32), handlers=(Service(),))
    print(server.add_insecure_port(f"127.0.0.1:{port}"), flush=True)
    server.start()
    server.wait_for_termination()


def outcome(call):
    """The result, or the status in gRPC's words."""
    try:
        return call()
    except grpc.RpcError as error:
        return [error.code().name, error.details()]


def text(parts):
    return [part.decode() for part in parts]


def call(address):
    channel = grpc.insecure_channel(address)
    to = lambda kind, name: getattr(channel, kind)(f"/test.Test/{name}")

    def unary_with_trailers():
        answer, done = to("unary_unary", "Unary").with_call(b"hi", metadata=(("x-asked", "yes"),))
        return [answer.decode(), done.code().name, dict(done.trailing_metadata()).get("x-trailer")]

    def in_turn():
        """Each message is answered before the next is sent: nothing may be held back on the way."""
        asked = queue.Queue()
        answers = to("stream_stream", "Both")(iter(asked.get, None))
        got = []
        for number in range(3):
            asked.put(b"%d" % number)
            got.append(next(answers).decode())
        asked.put(None)
        return got + text(answers)

    large = b"x" * (1 << 20)
    results = {
        "unary": outcome(unary_with_trailers),
        "fail": outcome(lambda: to("unary_unary", "Fail")(b"")),
        "unknown": outcome(lambda: to("unary_unary", "Unknown")(b""))[:1],
        "down": outcome(lambda: text(to("unary_stream", "Down")(b"5"))),
        "up": outcome(lambda: to("stream_unary", "Up")(iter([large, large, b"y"])).decode()),
        "both": outcome(in_turn),
        "deadline": outcome(lambda: to("unary_unary", "Slow")(b"", timeout=0.3))[:1],
    }
    print(json.dumps(results), flush=True)


def waits(address):
    """The first line when the first call is sent, the second when the other is to follow."""
    channel = grpc.insecure_channel(address)
    unary = channel.unary_unary("/test.Test/Unary")
    first = unary.future(b"hi", timeout=4)
    sys.stdin.readline()
    try:
        unary(b"ho", timeout=60)
        second = None
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata())
        second = [error.code().name, error.details(), trailers.get("grpc-retry-pushback-ms")]
    print(json.dumps({"second": second, "first": first.code().name}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    elif sys.argv[1] == "waits":
        waits(sys.argv[2])
    else:
        call(sys.argv[2])
