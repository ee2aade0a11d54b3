"""Passes what comes to a port of its own on to another one, with TLS and ALPN h2: `tls_tunnel.py PORT`. Prints its port."""
import asyncio
import ssl
import sys

terms = ssl.create_default_context()
terms.check_hostname = False
terms.verify_mode = ssl.CERT_NONE
terms.set_alpn_protocols(["h2"])
kept = set()


async def pump(source, sink):
    try:
        while piece := await source.read(65536):
            sink.write(piece)
            await sink.drain()
    except OSError:
        pass


async def serve(reader, writer):
    there, to = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]), ssl=terms)
    assert to.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    pumps = [asyncio.create_task(pump(reader, to)), asyncio.create_task(pump(there, writer))]
    kept.update(pumps)
    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    to.close()
    writer.close()
    kept.difference_update(pumps)


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
