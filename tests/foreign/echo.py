# Says every message back as it came.
import asyncio, logging
from websockets.asyncio.server import serve

logging.getLogger("websockets").setLevel(logging.CRITICAL)

async def talk(socket):
    async for message in socket:
        await socket.send(message)

async def main():
    async with serve(talk, "127.0.0.1", 0, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()

asyncio.run(main())
