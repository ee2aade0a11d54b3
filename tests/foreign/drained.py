# Speaks compressed and fragmented messages without a pause until it is closed; every message that was answered must have
# come back whole and in order, and the end must have a word.
import asyncio, sys
from dial import to
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

SIZES = (10, 5_000, 70_000)

async def one(id, port):
    got = 0
    url, terms = to(port)
    async with connect(url, max_size=None, **terms) as socket:
        if id == 0:
            print("open", flush=True)
        try:
            while True:
                text = f"{got} " + "x" * SIZES[got % 3]
                await socket.send(text if got % 2 else [text[:5], text[5:]])
                assert await socket.recv() == text
                got += 1
        except ConnectionClosed:
            return socket.close_code, socket.close_reason, got

async def main():
    port, sockets = map(int, sys.argv[1:])
    ends = await asyncio.gather(*(one(i, port) for i in range(sockets)))
    assert all(code == 1012 and reason and got for code, reason, got in ends), ends
    print("closed", flush=True)

asyncio.run(main())
