"""An HTTP/3 client on aioquic.

    http3_peer.py HOST PORT NAME TRUST    asks for everything, prints what came of it as JSON
"""

import asyncio
import json
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamReset


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.answers = {}

    def quic_event_received(self, event):
        if isinstance(event, StreamReset) and event.stream_id in self.answers:
            answer = self.answers[event.stream_id]
            if not answer["done"].done():
                answer["reset"] = event.error_code
                answer["done"].set_result(None)
        for event in self.http.handle_event(event):
            answer = self.answers.get(event.stream_id)
            if answer is None:
                continue
            if isinstance(event, HeadersReceived):
                fields = [[name.decode(), value.decode()] for name, value in event.headers]
                answer["fields"].append(fields)
            elif isinstance(event, DataReceived):
                answer["body"] += event.data
            if event.stream_ended and not answer["done"].done():
                answer["done"].set_result(None)

    async def ask(self, method, path, fields=(), body=None, trailers=None):
        stream = self._quic.get_next_available_stream_id()
        done = asyncio.get_running_loop().create_future()
        answer = {"fields": [], "body": bytearray(), "done": done, "reset": None}
        self.answers[stream] = answer
        head = [
            (b":method", method),
            (b":scheme", b"https"),
            (b":authority", NAME.encode()),
            (b":path", path),
            *fields,
        ]
        self.http.send_headers(stream, head, end_stream=body is None)
        if body is not None:
            self.http.send_data(stream, body, end_stream=trailers is None)
        if trailers is not None:
            self.http.send_headers(stream, trailers, end_stream=True)
        self.transmit()
        await asyncio.wait_for(done, 60)
        if answer["fields"]:
            answer["status"] = int(dict(answer["fields"][0])[":status"])
        return answer


def settings(ticket=None, tickets=None):
    made = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=NAME)
    made.load_verify_locations(TRUST)
    made.max_data = made.max_stream_data = 1 << 20
    made.session_ticket = ticket
    return connect(HOST, PORT, configuration=made, create_protocol=Client, session_ticket_handler=tickets)


async def main():
    results, tickets = {}, []
    async with settings(tickets=tickets.append) as client:
        answer = await client.ask(b"GET", b"/x")
        echo = json.loads(answer["body"])
        via = any(name == "via" and "3.0" in value for name, value in echo["headers"])
        results["get"] = [answer["status"], echo["method"], echo["path"], via]

        answer = await client.ask(b"POST", b"/", body=b"x" * (3 << 20))
        results["post"] = [answer["status"], json.loads(answer["body"])["body"]["bytes"]]

        answer = await client.ask(b"GET", b"/?size=5242880")
        results["large"] = [answer["status"], len(answer["body"])]

        after = [(b"x-after", b"all")]
        answer = await client.ask(b"POST", b"/", [(b"trailer", b"x-after")], b"x" * 10, after)
        sent = json.loads(answer["body"])["trailers"]
        answer = await client.ask(b"GET", b"/?size=10&trailers&chunked", [(b"te", b"trailers")])
        results["trailers"] = [sent, dict(answer["fields"][-1]).get("x-origin-bytes")]

        many = await asyncio.gather(*(client.ask(b"GET", b"/?delay=50ms") for _ in range(100)))
        results["many"] = [max(answer["status"] for answer in many), len(many)]

        answer = await client.ask(b"GET", b"/", fields=[(b"x-large", b"y" * 40000)])
        results["too_large"] = answer["status"]
        answer = await client.ask(b"GET", b"/", fields=[(b"connection", b"close")])
        results["malformed"] = answer["reset"]
        # Tickets come when the handshake is over.
        while not tickets:
            await client.ask(b"GET", b"/")
    async with settings(ticket=tickets[0]) as client:
        await client.ask(b"GET", b"/")
        tls = client._quic.tls
        results["resumed"] = [tls.session_resumed, tls.early_data_accepted]
    print(json.dumps(results))


HOST, PORT, NAME, TRUST = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
asyncio.run(main())
