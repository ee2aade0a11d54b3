"""Passes what comes to a port of its own on to another one, with TLS and ALPN h2: `tls_tunnel.py PORT`. Prints its port."""
import asyncio
import ssl
import sys

terms = ssl.create_default_context()
terms.check_hostname = False
terms.verify_mode = ssl.CERT_NONE
terms.set_alpn_protocols(["h2"])


async def pump(source, sink):
    try:
        while piece := await source.read(65536):
            sink.write(piece)
            await sink.drain()
    except OSError:
        pass
    sink.close()


async def serve(reader, writer):
    there, to = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]), ssl=terms)
    assert to.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    await asyncio.gather(pump(reader, to), pump(there, writer))


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
