# A WebSocket of RFC 8441 by Python's h2: says something, reads it back, then waits for the end and tells how it came.
import socket, sys
import h2.config, h2.connection, h2.events, h2.settings

wire = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
wire.settimeout(20)
connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
connection.initiate_connection()
events = []

def until(wanted):
    while True:
        while events:
            event = events.pop(0)
            if isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                raise SystemExit(f"ended by {event}")
            if isinstance(event, h2.events.DataReceived):
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if isinstance(event, wanted):
                return event
        wire.sendall(connection.data_to_send())
        data = wire.recv(65536)
        if not data:
            raise SystemExit("the connection ended")
        events.extend(connection.receive_data(data))

until(h2.events.RemoteSettingsChanged)
assert connection.remote_settings.enable_connect_protocol == 1
stream = connection.get_next_available_stream_id()
connection.send_headers(stream, [
    (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/ws"), (":authority", "shop.example"),
    ("sec-websocket-version", "13"),
])
answer = dict(until(h2.events.ResponseReceived).headers)
assert answer[b":status"] == b"200", answer

def send(opcode, payload):
    mask = b"\x07\x4d\xb1\x03"
    masked = bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
    connection.send_data(stream, bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked)

data = b""
def read():
    global data
    while len(data) < 2 or len(data) < 2 + (data[1] & 0x7F):
        data += until(h2.events.DataReceived).data
    size = data[1] & 0x7F
    assert size < 126 and not data[1] & 0x80, data
    opcode, payload, data = data[0] & 15, data[2:2 + size], data[2 + size:]
    return opcode, payload

send(1, b"hello")
assert read() == (1, b"hello")
print("open", flush=True)
opcode, payload = read()
assert opcode == 8, (opcode, payload)
send(8, payload[:2])
if not connection.streams[stream].closed:
    until(h2.events.StreamEnded)
assert not data, data
print(f"closed {int.from_bytes(payload[:2], 'big')} {payload[2:].decode()}, then the stream", flush=True)
