"""Sends a body of so many bytes over HTTP/2 without TLS until it is answered: h2_upload.py PORT PATH BYTES [length].
Prints the status and the answer's body."""
import socket
import sys

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset

port, path, left = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
headers = [(":method", "POST"), (":path", path), (":scheme", "http"), (":authority", "test")]
if "length" in sys.argv:
    headers.append(("content-length", str(left)))
sock = socket.create_connection(("127.0.0.1", port), timeout=20)
conn = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
conn.initiate_connection()
conn.send_headers(1, headers)
status, body, ended = "none", b"", False
while not ended:
    while left and (room := min(left, conn.local_flow_control_window(1), conn.max_outbound_frame_size)) > 0:
        left -= room
        conn.send_data(1, b"x" * room, end_stream=left == 0)
    sock.sendall(conn.data_to_send())
    data = sock.recv(65536)
    if not data:
        break
    for event in conn.receive_data(data):
        if isinstance(event, ResponseReceived):
            status = dict(event.headers)[":status"]
        elif isinstance(event, DataReceived):
            body += event.data
            conn.acknowledge_received_data(event.flow_controlled_length, 1)
        elif isinstance(event, (StreamEnded, StreamReset)):
            ended = True
            break
print(status, body.decode(), end="")
