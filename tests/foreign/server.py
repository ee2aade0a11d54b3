# A WebSocket server of other people's making: sends back its name, the session and how often it spoke.
import asyncio, sys
from websockets.asyncio.server import serve

name, sessions = sys.argv[1], {}

async def talk(socket):
    session = socket.request.headers.get("X-Session-ID", "-")
    async for _ in socket:
        sessions[session] = sessions.get(session, 0) + 1
        await socket.send(f"{name} {session} {sessions[session]}")

async def main():
    async with serve(talk, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()

asyncio.run(main())
