"""A server application: it stores what it is told of, byte by byte, and answers as `plan.json` says, one entry for each request.

Usage: application.py FOLDER [CERTIFICATE KEY]. It prints the port that it listens on. The n-th request is kept as `n.head` (JSON, complete
when it is there) and `n.body` (renamed from `n.part` when it is whole).
"""

import http.server
import json
import os
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.request

folder = sys.argv[1]
count = 0
lock = threading.Lock()


def kept(name):
    return os.path.join(folder, name)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global count
        with lock:
            number = count
            count += 1
        with open(kept("plan.json")) as file:
            plan = json.load(file)
        step = plan[min(number, len(plan) - 1)]
        head = {"target": self.path, "headers": [[name.lower(), value] for name, value in self.headers.items()]}
        with open(kept(f"{number}.tmp"), "w") as file:
            json.dump(head, file)
        os.rename(kept(f"{number}.tmp"), kept(f"{number}.head"))
        if "status_at_once" in step:
            self.answer(step["status_at_once"], {}, b"", close=True)
            return
        rest = int(self.headers.get("Content-Length", "0"))
        with open(kept(f"{number}.part"), "wb") as file:
            while rest > 0:
                if "reset_after" in step and file.tell() >= step["reset_after"]:
                    self.reset()
                    return
                piece = self.rfile.read(min(rest, 65536))
                if not piece:
                    self.close_connection = True
                    return
                file.write(piece)
                rest -= len(piece)
        os.rename(kept(f"{number}.part"), kept(f"{number}.body"))
        if step.get("waits"):
            while not os.path.exists(kept("go")):
                time.sleep(0.01)
        if "file" in step:
            self.by_reference(number, step["file"].encode())
        body = step.get("body", "").encode()
        headers = step.get("headers", {})
        if "length" in step:
            self.long(step["length"], step.get("cut"))
            return
        self.answer(step.get("status", 200), headers, body, step.get("unframed", False))

    def by_reference(self, number, reply):
        source, target = self.headers["BITS-Request-DataFile-Name"], self.headers["BITS-Response-DataFile-Name"]
        if source.startswith("http"):
            with urllib.request.urlopen(source) as found:
                data = found.read()
            put = urllib.request.Request(target, data=reply, method="PUT")
            urllib.request.urlopen(put).close()
        else:
            with open(source, "rb") as file:
                data = file.read()
            with open(target, "wb") as file:
                file.write(reply)
        with open(kept(f"{number}.read"), "wb") as file:
            file.write(data)

    def answer(self, status, headers, body, unframed=False, close=False):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if unframed or close:
            self.send_header("Connection", "close")
            self.close_connection = True
        if not unframed:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def long(self, length, cut):
        """A reply of which byte n is n % 251; perhaps less of it than its head says."""
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        block = bytes(range(251)) * 1024
        sent, end = 0, length if cut is None else cut
        while sent < end:
            piece = block[: min(len(block), end - sent)]
            self.wfile.write(piece)
            sent += len(piece)
        if cut is not None:
            self.close_connection = True

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.rfile.close()
        self.wfile.close()
        self.connection.close()

    def log_message(self, format, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


server = Server(("127.0.0.1", 0), Handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
