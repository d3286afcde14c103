"""What is known of a mail server before it is asked."""

from __future__ import annotations

from dataclasses import dataclass

# RFC 5321 section 4.5.3.2: five minutes for a command, two for the answer to DATA, and ten for the
# answer to the final dot.
COMMAND_TIMEOUT = 300.0
DATA_TIMEOUT = 120.0
FINAL_TIMEOUT = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A mail server and how to speak to it. Timeouts in seconds."""

    host: str
    port: int
    tls: str = "starttls"  # tls | starttls | none
    user: str = ""
    password: str = ""
    timeout: float = COMMAND_TIMEOUT
    final_timeout: float = FINAL_TIMEOUT
    messages: int = 100  # after so many a connection is closed and made anew

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def data_timeout(self) -> float:
        return min(self.timeout, DATA_TIMEOUT)
