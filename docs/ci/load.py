"""Calls the service at a port of this machine until it is killed: load.py PORT [CALLS_PER_SECOND]"""
import itertools, socket, sys, time

port, per_second = int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 500.0
for _ in range(100):
    try:
        service = socket.create_connection(("127.0.0.1", port))
        break
    except ConnectionRefusedError:
        time.sleep(0.1)
else:
    sys.exit(f"nothing listens at port {port}")
answers = service.makefile()
for number in itertools.count():
    service.sendall(f"caller {number}\n".encode())
    if answers.readline() != f"hello caller {number}\n":
        sys.exit("the service does not answer")
    time.sleep(1 / per_second)
