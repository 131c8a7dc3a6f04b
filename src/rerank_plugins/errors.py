"""The errors that this package raises, all of them subclasses of `RerankError`.

A message says what was got, what was expected, and what to do next.
"""

from __future__ import annotations


class RerankError(Exception):
    """Base class of the errors of rerank-plugins."""


class InvalidInputError(RerankError, ValueError):
    """An argument or a document that cannot be used; also a ValueError."""


class ModelNotFoundError(RerankError, FileNotFoundError):
    """No folder, bundled model or repository with this name was found; also a FileNotFoundError."""


class ModelLoadError(RerankError):
    """The model was found, but its files cannot be used."""


class MissingExtraError(RerankError, ImportError):
    """An optional dependency is not installed; also an ImportError."""

    def __init__(self, extra: str, purpose: str, missing: str) -> None:
        """Name the ``extra`` to install, what it is for, and the module that was not found."""
        super().__init__(
            f"{purpose} needs the package {missing!r}, which is not installed. "
            f"Install it with: pip install 'rerank-plugins[{extra}]'"
        )


class ExportError(RerankError):
    """An export cannot be written: the disk is full, or permission is missing."""


class TrainingError(RerankError):
    """A training cannot go on: full disk, no permission, no memory. Its checkpoints stay usable."""


class OverloadedError(RerankError):
    """Too many pairs wait for the model already; the call was not begun."""


class DeadlineExceededError(RerankError, TimeoutError):
    """The deadline passed before every document had a score; also a TimeoutError."""


class ClosedError(RerankError):
    """The reranker was closed before or during the call."""


class ScoringError(RerankError):
    """A scorer failed, or returned a wrong number of scores, or some that are not finite or off their scale."""


class OutOfMemoryError(ScoringError, MemoryError):
    """One pair alone does not fit into memory; also a MemoryError. `Engine.logits` raises it for a batch."""


class RemoteError(ScoringError):
    """A server that reranks refused a request or failed; itself where none of its subclasses says it better."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        """``status``: of the server's answer; None where there was none."""
        super().__init__(message)
        self.status = status


class RemoteUnauthorizedError(RemoteError):
    """The server does not take the key, or the account behind it may not ask (401, 402, 403)."""


class RemoteRateLimitError(RemoteError, OverloadedError):
    """The server answers no more requests for the moment (429), and waiting for it did not help or takes too long."""


class RemoteTooLargeError(RemoteError):
    """A request cannot be made small enough for the server."""


class RemoteUnavailableError(RemoteError):
    """The server cannot be reached, does not answer in time, or fails (408, 424, 5xx)."""


class RemoteResponseError(RemoteError):
    """The server's answer cannot be used: no JSON, cut off, not one finite score for each document."""
