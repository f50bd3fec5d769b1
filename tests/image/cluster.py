"""What the operator in the container talks to, on loopback: a name server, and an API server without any object or a real one."""

import http.server
import json
import queue
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

NAME = "api.cluster.example"
# An address of loopback that nobody listens on, whatever resolver the machine has.
RESOLVER = "127.53.53.53"

# Of the domain name system (RFC 1035, section 4).
A = 1
ANSWER, NO_SUCH_NAME = 0x8180, 0x8183
THE_NAME_ASKED_FOR = 0xC00C


class Resolver(socketserver.BaseRequestHandler):
    """Knows some names, with one address each; to all others, such as those made with search domains, there is no such name."""

    def handle(self):
        query, sender = self.request
        self.server.asked.add(name(query)[0])
        sender.sendto(answer(query, self.server.names), self.client_address)


class NameServer(socketserver.UDPServer):
    def __init__(self, names):
        super().__init__((RESOLVER, 53), Resolver)
        self.names = names
        self.asked = set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()


def name(query):
    """The name that is asked for, and where it ends (RFC 1035, section 4.1.2)."""
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), at + 1


def answer(query, names):
    asked, end = name(query)
    question, (kind,) = query[12 : end + 4], struct.unpack("!H", query[end : end + 2])
    known = asked in names
    addresses = [socket.inet_aton(names[asked])] if known and kind == A else []
    header = struct.pack("!2s5H", query[:2], ANSWER if known else NO_SUCH_NAME, 1, len(addresses), 0, 0)
    records = [struct.pack("!3HIH4s", THE_NAME_ASKED_FOR, A, 1, 60, 4, address) for address in addresses]
    return header + question + b"".join(records)


class Handler(http.server.BaseHTTPRequestHandler):
    """Lists are empty, and watches tell nothing until the end."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.paths.add(urlsplit(self.path).path)
        self.server.authorizations.add(self.headers["Authorization"])
        watch = "watch=" in self.path
        content = b"" if watch else json.dumps({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        if watch:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        if watch:
            self.server.ending.wait()
            self.close_connection = True

    def log_message(self, *_):
        pass


class ApiServer(http.server.ThreadingHTTPServer):
    """Speaks TLS with a certificate for `NAME` by an authority of its own."""

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths = set()
        self.authorizations = set()
        # Why connections broke, such as a client that does not trust the certificate.
        self.refusals = queue.Queue()
        self.ending = threading.Event()
        self.authority = folder / "ca.crt"
        certify(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        # The handshake is left to each connection's thread.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        self.refusals.put(str(sys.exc_info()[1]))

    def kubeconfig(self, authority=None):
        cluster = {"server": f"https://{NAME}:{self.server_address[1]}"}
        if authority:
            cluster["certificate-authority"] = authority
        context = {"cluster": "it", "user": "it"}
        return json.dumps(
            {
                "clusters": [{"name": "it", "cluster": cluster}],
                "users": [{"name": "it", "user": {}}],
                "contexts": [{"name": "it", "context": context}],
                "current-context": "it",
            }
        )

    def close(self):
        self.ending.set()
        self.shutdown()
        self.server_close()


class ControlPlane:
    """A real API server, the one of the tests in Rust, and kubectl. It is built by `cargo test --test cluster playground`."""

    def __init__(self, folder):
        built = Path(__file__).resolve().parents[2].glob("target/control-plane/*/control-plane")
        program = max(built, key=lambda path: path.stat().st_mtime, default=None)
        if program is None:
            raise FileNotFoundError("there is no API server: run `cargo test --test cluster playground` first")
        self.kubectl_program = program.with_name("kubectl")
        self.kubeconfig = folder / "kubeconfig"
        with (folder / "control-plane.log").open("w") as log:
            # It ends with its standard input.
            self.process = subprocess.Popen(
                [program, "--data", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        if self.process.stdout.readline() != b"ready\n":
            raise AssertionError((folder / "control-plane.log").read_text())

    def command(self, *arguments):
        return [self.kubectl_program, "--kubeconfig", self.kubeconfig, *arguments]

    def kubectl(self, *arguments):
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Service(socketserver.ThreadingTCPServer):
    """Passes connections on to a port of 127.0.0.1, as a Service does to a Pod."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address, port):
        super().__init__(address, Connection)
        self.port = port
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()


class Connection(socketserver.BaseRequestHandler):
    def handle(self):
        with socket.create_connection(("127.0.0.1", self.server.port)) as pod:
            back = threading.Thread(target=copy, args=(pod, self.request), daemon=True)
            back.start()
            copy(self.request, pod)
            back.join()


def copy(source, target):
    """Until one of the two ends."""
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def certify(folder):
    """A certificate authority, and by it a certificate for `NAME`."""

    def openssl(name, *options):
        new = ["openssl", "req", "-x509", "-noenc", "-days", "1", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        files = ["-keyout", f"{name}.key", "-out", f"{name}.crt"]
        subprocess.run([*new, *files, *options], cwd=folder, check=True, capture_output=True)

    openssl("ca", "-subj", "/CN=an authority for one test")
    signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"]
    openssl("server", "-subj", f"/CN={NAME}", *signed, "-addext", f"subjectAltName=DNS:{NAME}")
