"""Connects to a port with TLS so many times, begins, and stays: `tls_idle.py "PORT PROTOCOL COUNT"`. Prints the count when
all are there; a line on standard input ends it."""
import socket
import ssl
import sys

port, protocol, count = sys.argv[1].split()
terms = ssl.create_default_context()
terms.check_hostname = False
terms.verify_mode = ssl.CERT_NONE
terms.set_alpn_protocols([protocol])
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"

clients = []
for _ in range(int(count)):
    client = terms.wrap_socket(socket.create_connection(("127.0.0.1", int(port))))
    assert client.selected_alpn_protocol() == protocol
    if protocol == "h2":
        client.sendall(PREFACE)
        client.recv(4096)
        client.sendall(b"\0\0\0\4\1\0\0\0\0")
    else:
        client.sendall(b"GET / HTTP/1.1\r\nHost: t\r\nX-Slow: a")
    clients.append(client)
print(count, flush=True)
sys.stdin.readline()
