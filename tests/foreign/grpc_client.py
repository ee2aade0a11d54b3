# Calls the gRPC server through the given port in every way there is.
import queue, sys, threading, time
import grpc

channel = grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}")
call = lambda kind, name: getattr(channel, kind)(f"/test.Echo/{name}", _registered_method=False)

unary = call("unary_unary", "Unary")
answer, done = unary.with_call(b"abc", metadata=(("x-ask", "me"),), timeout=10)
assert answer == b"cba", answer
assert ("x-first", "1") in [tuple(m) for m in done.initial_metadata()], done.initial_metadata()
last = dict(done.trailing_metadata())
assert last["x-last"] == "me" and last["x-bin-bin"] == b"\x00\xff", last
assert unary(b"", timeout=10) == b""
large = bytes(range(256)) * 8192
assert unary(large, timeout=20) == large[::-1]

answers = list(call("unary_stream", "ServerStream")(b"300", timeout=20))
assert answers == [b"%d" % i * 1000 for i in range(300)], len(answers)

assert call("stream_unary", "ClientStream")((b"x" * 1000 for _ in range(500)), timeout=20) == b"500000"

# One by one: each answer comes before the next request is made.
said = queue.Queue()
talk = call("stream_stream", "Bidi")(iter(said.get, None), timeout=20)
for word in (b"one", b"two", b"three" * 5000):
    said.put(word)
    assert next(talk) == word.upper()
said.put(None)
assert list(talk) == []

def code(what):
    try:
        what()
    except grpc.RpcError as e:
        return e.code(), e.details()
    raise AssertionError("it passed")

assert code(lambda: call("unary_unary", "Fail")(b"", timeout=10)) == (grpc.StatusCode.FAILED_PRECONDITION, "not today: äöü")
midway = call("unary_stream", "FailMidway")(b"", timeout=10)
assert next(midway) == b"one"
assert code(lambda: next(midway)) == (grpc.StatusCode.DATA_LOSS, "lost")
assert code(lambda: call("unary_unary", "Missing")(b"", timeout=10))[0] == grpc.StatusCode.UNIMPLEMENTED
# A deadline, and a call that is taken back.
assert code(lambda: call("unary_unary", "Slow")(b"", timeout=0.3))[0] == grpc.StatusCode.DEADLINE_EXCEEDED
future = call("unary_unary", "Slow").future(b"", timeout=10)
time.sleep(0.3)
future.cancel()
assert code(future.result)[0] == grpc.StatusCode.CANCELLED if not future.cancelled() else True

# Many at a time.
futures = [unary.future(b"%d" % i, timeout=20) for i in range(300)]
assert [f.result() for f in futures] == [(b"%d" % i)[::-1] for i in range(300)]
print("ok")
