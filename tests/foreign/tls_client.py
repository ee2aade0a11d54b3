# Speaks HTTP/1.1 and HTTP/2 over TLS, with a certificate of its own, through the given port: many requests, a body.
import asyncio, ssl, sys
import httpx

port, ca, certificate = sys.argv[1:4]

async def main():
    for http2, version in ((False, "HTTP/1.1"), (True, "HTTP/2")):
        terms = ssl.create_default_context(cafile=ca)
        terms.load_cert_chain(certificate)
        async with httpx.AsyncClient(http2=http2, verify=terms, base_url=f"https://127.0.0.1:{port}", trust_env=False) as client:
            answers = await asyncio.gather(*(client.get(f"/{i}") for i in range(50)))
            assert all(a.http_version == version and a.text == "a" for a in answers), answers
            body = bytes(range(256)) * 4000
            answer = await client.post("/echo", content=body)
            assert (answer.status_code, answer.http_version) == (200, version)
        # Without it nobody comes in.
        try:
            async with httpx.AsyncClient(http2=http2, verify=ssl.create_default_context(cafile=ca), trust_env=False) as client:
                await client.get(f"https://127.0.0.1:{port}/")
        except (httpx.TransportError, ssl.SSLError):
            continue
        raise AssertionError("it came in without a certificate")
    print("ok")

asyncio.run(main())
