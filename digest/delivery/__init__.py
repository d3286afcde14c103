"""Handing messages to the mail server: bytes in, the server's acceptance or DeliveryError out.

One Connection carries one message at a time, is reused for many, and is thrown away after any
error that leaves its state in doubt. What a caller must know is told apart exactly:

- refused for this recipient, for good (5yz) or for now (4yz);
- refused because of the server or the way to it (421, connection, TLS, login): nobody's fault;
- lost before the server asked for the content (its 354): nothing was sent;
- lost after the content went out: nobody knows (RFC 5321 section 4.2.5, RFC 1047).

`opening` connects, secures and logs in; `wire` carries what is hot from then on: commands in
groups where the server allows it (RFC 2920), and contents that are ready. `envelope` makes the
commands, `replies` reads the answers, `connection` knows what follows from them.
"""

from digest.delivery.connection import Connection
from digest.delivery.replies import enhanced_code
from digest.delivery.server import FINAL_TIMEOUT, Server

__all__ = ["FINAL_TIMEOUT", "Connection", "Server", "enhanced_code"]
