"""How much a client may ask for, and how long it may take to say it."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What a service holds against clients that ask for too much.

    Attributes
    ----------
    body
        Bytes of a request's body; more are 413.
    texts
        Texts of a request; more are 422.
    waiting
        Texts of all requests that are not answered yet; more are 503.
    held
        Bytes of all bodies that are being read or answered; more are 503. Also bytes of all answers that wait
        for their clients to read them; a connection that adds more is cut.
    connections
        Open connections; more are closed as they come.
    body_seconds
        From the head of a request to the end of its body; longer is 408.
    head_seconds
        From the first byte of a request to the end of its head; longer is cut.
    head
        Bytes of a head; more are cut.
    headers
        Fields of a head, and of what may come behind a body in chunks; more are cut.
    pipelined
        Requests of a connection that wait for the answer to one before them; more are cut.
    unread_seconds
        For so long a client may read nothing of an answer; longer is cut.
    discarded
        Bytes of a body that are read and thrown away so that its sender hears of the refusal.
    """

    body: int = 2 * MIB
    texts: int = 1000
    waiting: int = 4096
    held: int = 128 * MIB
    connections: int = 1024
    body_seconds: float = 10.0
    head_seconds: float = 10.0
    head: int = 64 * 1024
    headers: int = 100
    pipelined: int = 16
    unread_seconds: float = 30.0
    discarded: int = 64 * MIB
