"""A Martlet server as a process of its own, and what cases ask of it."""

import base64
import pathlib
import random
import signal
import socket
import subprocess
import uuid

import grpc
from martlet.v1 import append_pb2, append_pb2_grpc

# So many events of a fill go into one append.
FILL_APPEND_EVENTS = 1_000


def free_port():
    """A port that the system gives to no outgoing connection: a server that was killed can have it again, and a client
    that looks for the server meanwhile does not connect to itself."""
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = [port for port in range(10_000, 32_000) if port < first]
    while ports:
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", random.choice(ports)))
            except OSError:
                continue
            return one.getsockname()[1]
    return 0


class Server:
    """A Martlet server on this storage, with the certificates of a folder that Certs/make-dev-certs.sh has made.

    With `client_ca`, its clients must present a certificate that names their tenants.
    """

    def __init__(self, program, certs, storage, client_ca=False):
        self.program, self.certs, self.storage, self.client_ca = program, certs, storage, client_ca
        self.port, self.process = free_port(), None
        self.start()

    @property
    def target(self):
        return f"127.0.0.1:{self.port}"

    @property
    def ca(self):
        return str((self.certs / "ca.pem").resolve())

    def start(self, _=None):
        """Waits for the end of the old server, if there was one, and starts one on the same port."""
        if self.process:
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
                raise RuntimeError("the server did not end within 30 s") from None
        command = [self.program, "serve", "--listen", self.target, "--storage", self.storage, "--log-level", "warning"]
        command += ["--cert", self.certs / "server.pem", "--key", self.certs / "server.key"]
        if self.client_ca:
            command += ["--client-ca", self.ca]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the server did not start")
        self.port = int(line.rsplit(":", 1)[1])
        return {}

    def kill(self, _=None):
        self.process.kill()
        self.process.wait()
        return {}

    def drain(self, _=None):
        self.process.send_signal(signal.SIGTERM)
        return {}


class CaseServer(Server):
    """The server of the cases, which lets everybody use every tenant."""

    def __init__(self, program, certs, storage):
        super().__init__(program, certs, storage)
        self.tenants = {}

    def fill(self, step):
        figures = (step["events"], step["payload_bytes"])
        if figures not in self.tenants:
            self.tenants[figures] = self.filled(*figures)
        return {"tenant": self.tenants[figures]}

    def filled(self, events, payload_bytes):
        tenant, payload = uuid.uuid4().bytes, b'"' + b"." * (payload_bytes - 2) + b'"'
        with open(self.ca, "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        with grpc.secure_channel(self.target, credentials) as channel:
            stub = append_pb2_grpc.AppendServiceStub(channel)
            for start in range(0, events, FILL_APPEND_EVENTS):
                request = append_pb2.AppendRequest(tenant=tenant)
                part = request.aggregates.add()
                part.aggregate.type, part.aggregate.id = "filler", uuid.uuid4().bytes
                part.expected.none = True
                for _ in range(min(FILL_APPEND_EVENTS, events - start)):
                    part.events.add(id=uuid.uuid4().bytes, type="Filled", payload=payload)
                stub.Append(request, wait_for_ready=True, timeout=60)
        return base64.b64encode(tenant).decode()

    def memory(self, step):
        folder = pathlib.Path(f"/proc/{self.process.pid}")
        sizes = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        resident, peak = (int(sizes[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
        if "growth_bytes_max" not in step:
            # From here on the peak is that of what follows.
            (folder / "clear_refs").write_text("5")
            self.resident = resident
        elif peak > self.resident + step["growth_bytes_max"]:
            growth = peak - self.resident
            raise RuntimeError(f"the server used {growth} bytes more, not at most {step['growth_bytes_max']}")
        return {}

    def answer(self, step):
        try:
            return getattr(self, step["server"])(step)
        except Exception as failure:
            return {"error": str(failure)}

    def recover(self):
        """A server that is there, whatever a case that failed has left."""
        if self.process.poll() is None:
            self.kill()
        self.start()
