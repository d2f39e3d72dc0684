"""The sign-in to Google's REST APIs, by the credentials that Google's own clients use."""

from collections.abc import Mapping
from threading import Lock
from typing import Any, Final

import google.auth
from google.auth.exceptions import GoogleAuthError

from controller.gateways.identity import request_within
from controller.gateways.json_http import SECONDS, NotSent

_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)


class GoogleSignIn:
    """Application Default Credentials, found when they are needed first, and kept fresh."""

    def __init__(self) -> None:
        self._credentials: Any = None
        self._lock = Lock()

    def headers(self, method: str, url: str) -> Mapping[str, str]:
        """Return what a request to Google needs besides its own headers; raises NotSent."""
        headers: dict[str, str] = {}
        try:
            with self._lock:
                if self._credentials is None:
                    self._credentials, _ = google.auth.default(_SCOPES)
                self._credentials.before_request(request_within(SECONDS), method, url, headers)
        except (GoogleAuthError, OSError):  # whose texts may hold whole answers
            raise NotSent("signing in to Google failed; try: gcloud auth application-default login") from None
        return headers
