# Reconnects again and again through the given ports in turn; every session must go on where it was.
import asyncio, sys
from dial import to
from websockets.asyncio.client import connect

async def one(session, ports, rounds):
    said = 0
    server = None
    for round in range(rounds):
        port = ports[(session + round) % len(ports)]
        headers = {"X-Session-ID": f"py{session}"}
        url, terms = to(port)
        async with connect(url, additional_headers=headers, **terms) as socket:
            for size in (1, 200, 70_000):
                await socket.send("x" * size)
                said += 1
                name, key, count = (await socket.recv()).split()
                server = server or name
                assert (name, key, int(count)) == (server, f"py{session}", said), (name, key, count, server, said)
        await asyncio.sleep(0.02)

async def main():
    ports = [int(p) for p in sys.argv[1:]]
    await asyncio.gather(*(one(s, ports, 6) for s in range(20)))
    print("kept")

asyncio.run(main())
