"""Where the page is served, and who can reach it there."""

import ipaddress
import os
import socket

from ifam.errors import UsageError


def listening(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address.

    Raises:
        UsageError: the port is taken, or there can be no such address.
    """
    if not 0 < port < 65536:
        raise UsageError(f"port: expected 1 to 65535, got {port}")
    bound = None
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, place = found[0]
        bound = socket.socket(family, kind, protocol)
        if os.name == "posix":  # elsewhere it lets two processes share a port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
    except (OSError, UnicodeError) as error:
        if bound:
            bound.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{host}:{port}: expected an address to serve on, got: {reason}; try another --port") from None
    return bound


def is_open(host: str) -> bool:
    """Whether other machines can connect to an address that this one has."""
    place = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][4][0]
    return not ipaddress.ip_address(str(place).partition("%")[0]).is_loopback


def url(host: str, port: int) -> str:
    """What to open in a browser."""
    bare = host.strip("[]")
    return f"http://{f'[{bare}]' if ':' in bare else bare}:{port}"
