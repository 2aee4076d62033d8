"""nginx with two workers: files and compressed answers come whole, also while it reloads."""

import gzip
import http.client
import os
import socket
import subprocess
import time

from survive import FOLDER, digest, end, must, round_ends, say_ready, stopped

path = os.path.join(FOLDER, "nginx.socket")
os.makedirs(os.path.join(FOLDER, "www"))
os.chmod(FOLDER, 0o755)
text = ("".join(f"line {i * i % 8191}\n" for i in range(20000))).encode()
with open(os.path.join(FOLDER, "www/page.txt"), "wb") as file:
    file.write(text)
with open(os.path.join(FOLDER, "nginx.conf"), "w") as file:
    file.write(
        f"daemon off; worker_processes 2; pid {FOLDER}/pid; error_log {FOLDER}/errors; user root;"
        "events { worker_connections 64; }"
        f"http {{ access_log off; client_body_temp_path {FOLDER}/b; proxy_temp_path {FOLDER}/p; fastcgi_temp_path {FOLDER}/f;"
        f"uwsgi_temp_path {FOLDER}/u; scgi_temp_path {FOLDER}/s;"
        f"server {{ listen unix:{path}; root {FOLDER}/www; default_type text/plain; gzip on; gzip_types text/plain; }} }}"
    )
server = subprocess.Popen(["nginx", "-c", os.path.join(FOLDER, "nginx.conf"), "-e", f"{FOLDER}/errors"])


class Client(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)


def get(headers):
    client = Client("localhost")
    client.request("GET", "/page.txt", headers=headers)
    response = client.getresponse()
    body = response.read()
    client.close()
    return response.status, body


def workers():
    with open(f"/proc/{server.pid}/task/{server.pid}/children") as file:
        return file.read().split()


while not os.path.exists(path) or len(workers()) < 2:
    must(server.poll() is None, "nginx has started")
    time.sleep(0.02)
first = workers()
say_ready(server.pid, *first)
while not stopped():
    seen = []
    for i in range(40):
        status, body = get({})
        seen.append((status, digest(body)))
        status, packed = get({"Accept-Encoding": "gzip"})
        must(gzip.decompress(packed) == text, "the compressed page is the page")
        seen.append(status)
    round_ends(digest(seen))
    must(workers() == first, f"the workers are still {first}, not {workers()}")
server.terminate()
must(server.wait() == 0, f"nginx ends with 0, not {server.returncode}")
with open(f"{FOLDER}/errors") as file:
    must("exited on signal" not in file.read(), "no worker was ended by a signal")
end()
