# Node's and Python's usual clients speak HTTP/2 through the given port: many requests at a time, bodies both ways.
import asyncio, sys
import httpx

async def main():
    base = f"http://127.0.0.1:{sys.argv[1]}"
    async with httpx.AsyncClient(http1=False, http2=True, base_url=base) as client:
        answers = await asyncio.gather(*(client.get(f"/{i}") for i in range(100)))
        assert all(a.http_version == "HTTP/2" and a.status_code == 200 for a in answers)
        assert [a.json()["path"] for a in answers] == [f"/{i}" for i in range(100)]
        body = bytes(range(256)) * 4000
        answer = (await client.post("/echo", content=body)).json()
        assert answer["length"] == len(body), answer
        async def pieces():
            for _ in range(50):
                yield b"x" * 1000
                await asyncio.sleep(0.001)
        answer = (await client.post("/echo", content=pieces())).json()
        assert answer["length"] == 50_000, answer
        assert answer["version"] == sys.argv[2], answer
    print("ok")

asyncio.run(main())
