"""A change of a service: annotations of our own to set or to take away, and the split."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.core.traffic import Split

MOST_ANNOTATIONS = 256 * 1024
"""Bytes that the keys and texts of all annotations may have together, as in Kubernetes."""


@dataclass(frozen=True)
class Change:
    """What is to be written; what is not named here stays as it is.

    An annotation that is None is taken away. A split of None leaves the traffic alone. `done` says for people
    what it is.
    """

    annotations: Mapping[str, str | None] = field(default_factory=dict)
    split: Split | None = None
    done: str = ""

    def applied_to(self, annotations: Mapping[str, str]) -> dict[str, str]:
        """Return a service's annotations after the change."""
        kept = {key: text for key, text in annotations.items() if key not in self.annotations}
        return kept | {key: text for key, text in self.annotations.items() if text is not None}

    def size_on(self, annotations: Mapping[str, str]) -> int:
        """Return how many bytes the annotations have after the change."""
        return sum(
            len(key.encode()) + len(text.encode()) for key, text in self.applied_to(annotations).items()
        )
