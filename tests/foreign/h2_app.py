# An ASGI application under hypercorn, which speaks HTTP/1.1 and, with prior knowledge, HTTP/2: tells what it was asked.
import asyncio, json
from hypercorn.asyncio import serve
from hypercorn.config import Config
import socket

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    length = 0
    while True:
        event = await receive()
        length += len(event.get("body", b""))
        if not event.get("more_body"):
            break
    told = {"path": scope["path"], "version": scope["http_version"], "length": length}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})

held = socket.socket()
held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
held.bind(("127.0.0.1", 0))
held.listen(100)
print(held.getsockname()[1], flush=True)
config = Config()
config.bind = [f"fd://{held.fileno()}"]
asyncio.run(serve(app, config))
