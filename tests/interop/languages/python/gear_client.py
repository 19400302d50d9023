"""A client on gear: PORT ACTION NAME PRIORITY UNIQUE WHEN. What each action prints is in ../packages.py."""

import sys
import threading

import gear

PRECEDENCES = {"": gear.PRECEDENCE_NORMAL, "high": gear.PRECEDENCE_HIGH, "low": gear.PRECEDENCE_LOW}


class Client(gear.Client):
    """It says what it hears, as it hears it."""

    def __init__(self, jobs: int) -> None:
        super().__init__("gear")
        self.waiting = jobs
        self.failed = False
        self.ended = threading.Event()

    def _end(self, failed: bool) -> None:
        self.failed = self.failed or failed
        self.waiting -= 1
        if not self.waiting:
            self.ended.set()

    def _part(self, packet: gear.Packet) -> bytes:
        return packet.getArgument(1, True)

    def handleWorkData(self, packet: gear.Packet) -> None:
        super().handleWorkData(packet)
        sys.stdout.buffer.write(self._part(packet))

    def handleWorkWarning(self, packet: gear.Packet) -> None:
        super().handleWorkWarning(packet)
        print("warning", self._part(packet).decode(), file=sys.stderr)

    def handleWorkStatus(self, packet: gear.Packet) -> None:
        job = super().handleWorkStatus(packet)
        print(f"status {job.numerator.decode()}/{job.denominator.decode()}", file=sys.stderr)

    def handleWorkComplete(self, packet: gear.Packet) -> None:
        super().handleWorkComplete(packet)
        sys.stdout.buffer.write(self._part(packet))
        self._end(False)

    def handleWorkFail(self, packet: gear.Packet) -> None:
        super().handleWorkFail(packet)
        print("fail", file=sys.stderr)
        self._end(True)

    def handleWorkException(self, packet: gear.Packet) -> None:
        super().handleWorkException(packet)
        print("exception", self._part(packet).decode(), file=sys.stderr)
        self._end(True)


def admin(client: Client, name: str) -> None:
    """The row of one function, from the listing that gear takes as it is."""
    request = gear.StatusAdminRequest()
    client.getConnection().sendAdminRequest(request)
    rows = [line.split("\t") for line in request.response.decode().splitlines()]
    print(*next(row[1:] for row in rows if row[0] == name))


def cancel(client: Client, handle: str) -> None:
    """What the server says to `cancel job`."""
    request = gear.CancelJobAdminRequest(handle)
    client.getConnection().sendAdminRequest(request)
    print(request.response.decode().strip())


def main() -> int:
    port, action, name, priority, unique, _ = sys.argv[1:]
    payload = sys.stdin.buffer.read()
    parts = payload.splitlines(keepends=True) if action == "parallel" else [payload]
    client = Client(len(parts))
    client.addServer("127.0.0.1", int(port))
    client.waitForServer(30)
    if action == "exceptions" and not client.setOption("exceptions"):
        return 2
    if action == "admin":
        admin(client, name)
    elif action == "cancel":
        cancel(client, name)
    elif action in ("run", "exceptions", "parallel", "background"):
        jobs = [gear.Job(name, part, unique or None) for part in parts]
        for job in jobs:
            client.submitJob(job, action == "background", PRECEDENCES[priority])
        if action == "background":
            print(jobs[0].handle.decode())
        elif not client.ended.wait(60):
            return 2
    else:
        return 64
    sys.stdout.flush()
    client.shutdown()
    return int(client.failed)


sys.exit(main())
