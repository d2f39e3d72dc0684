"""What answers a request, as the user's connection sees it."""

from abc import abstractmethod
from typing import Protocol

from controller.emulator.serving.heads import Request


class Answering(Protocol):
    """Answers one request, once: by the connection's `answer_whole`, or by `write` and then `answered`."""

    __slots__ = ()

    request: Request

    @property
    @abstractmethod
    def is_full(self) -> bool:
        """Whether the user should send no more for now."""

    @abstractmethod
    def begin(self) -> None:
        """Set about it; of the body perhaps nothing has come yet."""

    @abstractmethod
    def body_came(self) -> None:
        """Take what has come of the request's body."""

    @abstractmethod
    def raw_came(self, data: bytes) -> None:
        """Take what came after the protocol was switched."""

    @abstractmethod
    def client_is_full(self, is_full: bool) -> None:
        """Hear that the user does not read as fast as is written, or has caught up."""

    @abstractmethod
    def client_gone(self) -> None:
        """Give up: nobody waits for the answer."""

    @abstractmethod
    def timed_out(self) -> None:
        """Give up: no more time is allowed."""

    @abstractmethod
    def refuse(self, status: int, text: str) -> None:
        """Answer in the platform's name."""
