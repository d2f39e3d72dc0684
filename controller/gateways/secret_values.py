"""Secrets that a policy names: read where they stand when they are needed, and kept in memory alone."""

import os
from collections.abc import Callable, Mapping
from typing import Final

from pydantic import Base64Bytes, BaseModel, ValidationError

from controller.gateways.json_http import NotSent, call

ENDPOINT: Final = "https://secretmanager.googleapis.com"
_HINTS: Final = {
    403: "give the controller's service account roles/secretmanager.secretAccessor on the secret",
    404: "there is no such secret, or no such version of it; create it, or mend its name in the policy",
}


class _Payload(BaseModel):
    data: Base64Bytes


class _Accessed(BaseModel):
    payload: _Payload


class SecretValues:
    """The values of `env:NAME` and `secret:NAME`; those of Secret Manager are read once."""

    def __init__(
        self,
        project: str,
        signed_in: Callable[[str, str], Mapping[str, str]],
        address: str = ENDPOINT,
    ) -> None:
        self._project = project
        self._signed_in = signed_in
        self._address = address
        self._kept: dict[str, str] = {}

    def value_of(self, reference: str) -> str:
        """Return the secret; raises NotSent, which says where it is missing."""
        kind, _, name = reference.partition(":")
        if kind == "env":
            return _from_environment(name)
        if reference not in self._kept:
            self._kept[reference] = self._read(name)
        return self._kept[reference]

    def forget(self, reference: str) -> None:
        """Read a secret anew when it is needed next: it may have been changed."""
        self._kept.pop(reference, None)

    def _read(self, name: str) -> str:
        full = name if "/" in name else f"projects/{self._project}/secrets/{name}"
        version = full if "/versions/" in full else f"{full}/versions/latest"
        url, who = f"{self._address}/v1/{version}:access", f"Secret Manager, asked for {version},"
        answer = call(who, "GET", url, self._signed_in("GET", url), hints=_HINTS)
        try:
            value = _Accessed.model_validate_json(answer).payload.data.decode().strip()
        except (ValidationError, UnicodeDecodeError):
            raise NotSent(f"{who} gave no text") from None  # the cause quotes it
        if not value:
            raise NotSent(f"the secret {version} is empty; add a version of it that is not")
        return value


def _from_environment(name: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise NotSent(f"the environment variable {name} is not set; set it where the controller runs")
    return value
