"""Server addresses: `host`, `host:port`, `[::1]:port`, `:port` and `unix:PATH`. Text only; nothing is resolved here."""

from __future__ import annotations

import sys

from farm.errors import UsageError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 4730  # Gearman's, registered with IANA
UNIX = "unix:"
UNIX_PATH_MAX = 107 if sys.platform == "linux" else 103  # bytes: the system's structure has no room for more


class Address:
    """Where a server listens. Either `path` (a Unix socket) or `host` and `port`."""

    __slots__ = ("host", "path", "port")

    def __init__(self, host: str = "", port: int = 0, path: str = "") -> None:
        self.host = host
        self.port = port
        self.path = path

    def __str__(self) -> str:
        if self.path:
            return UNIX + self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Address {self}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def parse_address(text: str) -> Address:
    """Raises UsageError for what is no address."""
    if text.startswith(UNIX):
        path = text[len(UNIX) :]
        if not path or "\0" in path:
            raise UsageError(f"not an address: {text!r}", "a Unix socket is written unix:PATH")
        size = len(path.encode("utf-8", "surrogateescape"))
        if size > UNIX_PATH_MAX:
            raise UsageError(
                f"the path of the Unix socket {path!r} is {size} bytes long (at most {UNIX_PATH_MAX})",
                "a relative path or a symbolic link to its directory is shorter",
            )
        return Address(path=path)
    host, port = _split(text.strip())
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise UsageError(f"not an address: {text!r}", "write HOST:PORT, [IPV6]:PORT or unix:PATH; ports are 0 to 65535")
    if any(letter.isspace() or letter in "/@\0" for letter in host):
        raise UsageError(f"not an address: {text!r}", "write HOST:PORT, [IPV6]:PORT or unix:PATH")
    if ":" in host and not _may_be_ipv6(host):
        raise UsageError(f"not an address: {text!r}", "write HOST:PORT or unix:PATH; IPv6 in brackets: [IPV6]:PORT")
    return Address(host or DEFAULT_HOST, int(port))


def _split(text: str) -> tuple[str, str]:
    default = str(DEFAULT_PORT)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if bracket and (not rest or rest.startswith(":")):
            return host, rest[1:] or default
        return text, "bad"
    if text.count(":") > 1:
        return text, default  # a bare IPv6 address
    host, _, port = text.partition(":")
    return host, port or default


def _may_be_ipv6(host: str) -> bool:
    """A scope (%eth0) may follow; two of its eight groups may be an IPv4 address."""
    number = host.partition("%")[0]
    whole = number.count(":") == (6 if "." in number else 7)
    return not number.strip("0123456789abcdefABCDEF:.") and (whole or "::" in number)


def parse_addresses(texts: list[str]) -> list[Address]:
    """Several addresses, each text one or a comma-separated list; none at all means the default server."""
    words = [word for text in texts for word in text.split(",") if word.strip()]
    if texts and not words:
        raise UsageError("an empty address was given", "is a variable of the script not set?")
    return [parse_address(word) for word in words] or [Address(DEFAULT_HOST, DEFAULT_PORT)]


def is_loopback(host: str) -> bool:
    """Whether a numeric address stays on this machine."""
    return host.startswith("127.") or host in ("::1", "::ffff:127.0.0.1")
