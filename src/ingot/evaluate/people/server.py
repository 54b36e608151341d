"""Serving the page: the port is taken first, links are told, Ctrl-C or SIGTERM ends it after the votes on their way."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Iterator

import uvicorn

from ingot.core.errors import fail
from ingot.core.progress import say, warn
from ingot.evaluate.people.app import application
from ingot.evaluate.people.study import Study

GRACE_SECONDS = 5


@contextlib.contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket. Raises `people-port-taken`, `people-cannot-listen`."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise fail("people-port-taken", host=host, port=port) from None
        raise fail("people-cannot-listen", host=host, port=port, reason=error.strerror or str(error)) from None
    with listener:
        yield listener


def server_of(study: Study) -> uvicorn.Server:
    """uvicorn with the page; the caller runs it on a socket."""
    return uvicorn.Server(
        uvicorn.Config(
            application(study), ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
            proxy_headers=False, timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )  # fmt: skip


def links(study: Study, listener: socket.socket) -> dict[str, str]:
    """Each annotator's own address of the page."""
    host, port = listener.getsockname()[:2]
    base = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return {name: f"{base}/a/{study.token(name)}" for name in study.annotators}


def serve(study: Study, listener: socket.socket) -> None:
    """Tell the links and serve until stopped."""
    if not ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback:
        warn("people-open-to-all", host=listener.getsockname()[0])
    for name, link in links(study, listener).items():
        say("people-link", name=name, link=link)
    say("people-stop")
    with contextlib.suppress(KeyboardInterrupt):
        server_of(study).run(sockets=[listener])
