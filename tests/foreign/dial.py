# Where the clients here connect to: a port of this machine; over TLS where LB_TEST_CA names whom to trust.
import os, ssl

def to(port):
    ca = os.environ.get("LB_TEST_CA")
    if not ca:
        return f"ws://127.0.0.1:{port}/ws", {}
    return f"wss://127.0.0.1:{port}/ws", {"ssl": ssl.create_default_context(cafile=ca), "server_hostname": "shop.example"}
