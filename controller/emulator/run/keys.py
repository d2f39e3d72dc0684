"""Labels and annotations: which keys, how many, how long."""

import re
from collections.abc import Mapping

from controller.emulator.errors import violation

RESERVED_NAMESPACES = (
    "run.googleapis.com",
    "cloud.googleapis.com",
    "serving.knative.dev",
    "autoscaling.knative.dev",
)
LARGEST_ANNOTATIONS = 256 * 1024
LONGEST_NAME = 63
LONGEST_PREFIX = 253
MOST_LABELS = 64
ANNOTATION_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
ANNOTATION_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
LONGEST_LABEL_VALUE = 63


def check_annotations(path: str, annotations: Mapping[str, str]) -> None:
    """Refuse reserved namespaces, keys that Kubernetes would not have, and more than 256 KiB."""
    _refuse_reserved(path, annotations)
    for key in annotations:
        prefix, slash, name = key.rpartition("/")
        is_prefix = ANNOTATION_PREFIX.fullmatch(prefix) and len(prefix) <= LONGEST_PREFIX
        if not ANNOTATION_NAME.fullmatch(name) or len(name) > LONGEST_NAME or (slash and not is_prefix):
            raise violation(
                path,
                f"'{key}' is not a valid key: it must be a name of at most {LONGEST_NAME} letters, digits, "
                f"'-', '_' and '.', after an optional domain of at most {LONGEST_PREFIX} characters and '/'.",
            )
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > LARGEST_ANNOTATIONS:
        raise violation(path, f"total size {size} exceeds {LARGEST_ANNOTATIONS} bytes.")


def check_labels(path: str, labels: Mapping[str, str]) -> None:
    """Refuse reserved namespaces, and what Google Cloud does not have as a label."""
    _refuse_reserved(path, labels)
    if len(labels) > MOST_LABELS:
        raise violation(path, f"{len(labels)} labels are more than {MOST_LABELS}.")
    for key, value in labels.items():
        if not LABEL_KEY.fullmatch(key):
            raise violation(
                path,
                f"'{key}' is not a valid key of a label: it must be at most 63 lowercase letters, digits, "
                "'_' and '-', and start with a letter.",
            )
        if len(value) > LONGEST_LABEL_VALUE:
            raise violation(path, f"the value of '{key}' has more than {LONGEST_LABEL_VALUE} characters.")


def check_template_labels(path: str, labels: Mapping[str, str]) -> None:
    """Refuse reserved namespaces; tools keep keys with a domain here that no service may have."""
    _refuse_reserved(path, labels)


def _refuse_reserved(path: str, pairs: Mapping[str, str]) -> None:
    for key in pairs:
        prefix, _, _ = key.rpartition("/")
        if any(prefix == reserved or prefix.endswith(f".{reserved}") for reserved in RESERVED_NAMESPACES):
            raise violation(path, f"'{key}' uses a reserved namespace.")
