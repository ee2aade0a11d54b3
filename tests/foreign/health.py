# A gRPC server of other people's making, with the standard health service. Lines on its input say what it serves.
import sys
from concurrent import futures
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
service = health.HealthServicer()
health_pb2_grpc.add_HealthServicer_to_server(service, server)
service.set("shop.Orders", health_pb2.HealthCheckResponse.SERVING)
if len(sys.argv) > 3:
    cert, key = (open(path, "rb").read() for path in sys.argv[2:4])
    pair = [(key, cert)]
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair))
else:
    port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
for line in sys.stdin:
    service.set("shop.Orders", getattr(health_pb2.HealthCheckResponse, line.strip()))
