# Sends mail from the given address through each of the given ports, a connection each, with Python's usual client; prints
# the names of the servers that greeted.
import smtplib, sys

source, ports = sys.argv[1], map(int, sys.argv[2:])
names = []
for port in ports:
    client = smtplib.SMTP(source_address=(source, 0), timeout=20)
    code, greeting = client.connect("127.0.0.1", port)
    assert code == 220, greeting
    name = greeting.decode().split()[0]
    for size in (10, 100_000):
        client.mail("a@example.com")
        client.rcpt("b@example.com")
        code, said = client.data("x" * size)
        assert code == 250 and said.decode().split()[0] == name, said
    client.quit()
    names.append(name)
print(" ".join(names))
