# A gRPC server of other people's making, of bytes: every way to call. Prints its port, then what it sees of cancellations.
import sys, time
from concurrent import futures
import grpc

def unary(request, context):
    context.send_initial_metadata((("x-first", "1"),))
    context.set_trailing_metadata((("x-last", dict(context.invocation_metadata()).get("x-ask", "-")), ("x-bin-bin", b"\x00\xff")))
    return request[::-1]

def server_stream(request, context):
    for i in range(int(request)):
        yield b"%d" % i * 1000

def client_stream(requests, context):
    return b"%d" % sum(len(r) for r in requests)

def bidi(requests, context):
    for request in requests:
        yield request.upper()

def fail(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: äöü")

def fail_midway(request, context):
    yield b"one"
    context.abort(grpc.StatusCode.DATA_LOSS, "lost")

def slow(request, context):
    context.add_callback(lambda: print("ended", context.is_active(), flush=True))
    while context.is_active():
        time.sleep(0.01)
    return b""

handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "FailMidway": grpc.unary_stream_rpc_method_handler(fail_midway),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
}
server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
