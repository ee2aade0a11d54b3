# A mail server of a few words, which greets first: says its name, and takes every message.
import socketserver, sys

name = sys.argv[1]

class Talk(socketserver.StreamRequestHandler):
    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self):
        taken = 0
        self.say(f"220 {name} ESMTP")
        for line in self.rfile:
            word = line.decode().strip().upper().split(" ")[0].split(":")[0]
            if word in ("EHLO", "HELO", "MAIL", "RCPT", "RSET", "NOOP"):
                self.say(f"250 {name}")
            elif word == "DATA":
                self.say("354 go on")
                size = 0
                for part in self.rfile:
                    if part == b".\r\n":
                        break
                    size += len(part)
                taken += 1
                self.say(f"250 {name} {taken} {size}")
            elif word == "QUIT":
                self.say(f"221 {name}")
                return
            else:
                self.say(f"502 {name}")

class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

server = Server(("127.0.0.1", 0), Talk)
print(server.server_address[1], flush=True)
server.serve_forever()
