"""Every error this package raises on purpose.

RerankError
├── InvalidInputError    an argument or a document that cannot be used (also a ValueError)
├── ModelNotFoundError   no place has the model (also a FileNotFoundError)
├── ModelLoadError       the model was found and cannot be used: a file missing, damaged, wrong kind
├── MissingExtraError    an optional dependency is not installed (also an ImportError)
├── ExportError          an export cannot be written: no room, no permission
└── ScoringError         a scorer gave something that is not one finite number a pair

A message says what was got, what was expected, and what to do next.
"""

from __future__ import annotations


class RerankError(Exception):
    """Root of all errors of rerank-plugins."""


class InvalidInputError(RerankError, ValueError):
    """An argument or a document that cannot be used."""


class ModelNotFoundError(RerankError, FileNotFoundError):
    """The model is in none of the places that were looked at."""


class ModelLoadError(RerankError):
    """The model was found, but its files cannot be used."""


class MissingExtraError(RerankError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, extra: str, purpose: str, missing: str) -> None:
        """Name the ``extra`` to install, what it is for, and the module that was not found."""
        super().__init__(
            f"{purpose} needs the package {missing!r}, which is not installed. "
            f"Install it with: pip install 'rerank-plugins[{extra}]'"
        )


class ExportError(RerankError):
    """An export cannot be written: no room on the disk, or no permission."""


class ScoringError(RerankError):
    """A scorer returned a wrong number of scores, or scores that are not finite or off their scale."""
