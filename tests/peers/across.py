"""Clients that stay: each line of standard input is sent, and its answer printed.

    across.py grpc ADDRESS       one stream of the service of grpc_peer.py, both ways
    across.py websocket URL      one WebSocket to an echo

At the end of the input they close in order and print `done`; if the connection ends before that,
`closed` and how.
"""

import asyncio
import os
import queue
import sys


def lines():
    return iter(sys.stdin.readline, "")


def say(*words):
    print(*words, flush=True)


def grpc_stream(address):
    import grpc

    asked = queue.Queue()
    stream = grpc.insecure_channel(address).stream_stream("/test.Test/Both")
    answers = stream(iter(asked.get, None))
    try:
        for line in lines():
            asked.put(line.strip().encode())
            say(next(answers).decode())
        asked.put(None)
        rest = list(answers)
        say("done", answers.code().name, len(rest))
    except grpc.RpcError as error:
        say("closed", error.code().name)


async def websocket(url):
    import websockets

    try:
        async with websockets.connect(url, ping_interval=None) as socket:
            while True:
                reading = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
                ended = asyncio.ensure_future(socket.wait_closed())
                await asyncio.wait([reading, ended], return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    say("closed", socket.close_code)
                    return
                line = reading.result()
                if not line:
                    break
                await socket.send(line.strip())
                say(await socket.recv())
        say("done", socket.close_code)
    except websockets.ConnectionClosed as closed:
        say("closed", closed.code)


if sys.argv[1] == "grpc":
    grpc_stream(sys.argv[2])
else:
    asyncio.run(websocket(sys.argv[2]))
    # The thread that reads standard input does not end by itself.
    os._exit(0)
