"""A WebSocket server and client for tests.

    websocket_peer.py serve           prints its port, echoes until it is ended
    websocket_peer.py call ADDRESS    tries everything, prints what came of it as JSON
"""

import asyncio
import http
import json
import sys

import websockets


async def echo(socket):
    async for message in socket:
        if message == "close":
            await socket.close(4001, "as asked")
        elif message == "host":
            await socket.send(socket.request_headers["Host"])
        else:
            await socket.send(message)


async def refuse(path, _headers):
    if path == "/refused":
        return http.HTTPStatus.FORBIDDEN, [("x-why", "not here")], b"no"


async def serve():
    options = {"subprotocols": ["chat"], "process_request": refuse, "max_size": None}
    async with websockets.serve(echo, "127.0.0.1", 0, **options) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


async def call(address):
    said = {}
    options = {"subprotocols": ["other", "chat"], "max_size": None}
    async with websockets.connect(f"ws://{address}/chat", **options) as socket:
        said["subprotocol"] = socket.subprotocol
        said["extensions"] = [extension.name for extension in socket.extensions]
        await socket.send("hello")
        said["text"] = await socket.recv()
        large = bytes(range(256)) * 8192
        await socket.send(large)
        said["large"] = await socket.recv() == large
        parts = ["a" * 1000] * 50
        await socket.send(parts)
        said["parts"] = await socket.recv() == "".join(parts)
        await asyncio.wait_for(await socket.ping(), 60)
        await socket.send("host")
        said["host"] = await socket.recv()
        await socket.send("close")
        try:
            await socket.recv()
        except websockets.ConnectionClosed as closed:
            said["close"] = [closed.rcvd.code, closed.rcvd.reason]
    try:
        await websockets.connect(f"ws://{address}/refused")
    except websockets.InvalidStatusCode as refused:
        said["refused"] = [refused.status_code, refused.headers.get("x-why")]
    print(json.dumps(said))


if sys.argv[1] == "serve":
    asyncio.run(serve())
else:
    asyncio.run(call(sys.argv[2]))
