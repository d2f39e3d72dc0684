"""Deployments on GitHub: one for each rollout, found again by its task, whose status follows the rollout."""

import os
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

from pydantic import BaseModel, TypeAdapter, ValidationError

from controller.core.notices import Notice
from controller.core.plain_text import plain
from controller.core.policy_choices import NoticeKind
from controller.core.policy_notices import GitHub
from controller.gateways.json_http import NotSent, call

API: Final = "https://api.github.com"
API_VARIABLE: Final = "GITHUB_API_URL"
"""The variable that holds the address of the API where it is a server of one's own."""
VERSION: Final = "2022-11-28"
LONGEST_DESCRIPTION: Final = 140
_HINTS: Final = {
    401: "the token is not valid; give it a new one",
    403: "the token needs to write deployments of the repository",
    404: "there is no such repository, or the token may not see it",
    409: "the commit cannot be deployed",
    422: "there is no such commit, branch or tag; mend `ref`",
}
_STATES: Final = {
    NoticeKind.STARTED: "in_progress",
    NoticeKind.STEP: "in_progress",
    NoticeKind.HELD: "in_progress",
    NoticeKind.PROMOTED: "success",
    NoticeKind.ROLLED_BACK: "failure",
    NoticeKind.FAILED: "failure",
    NoticeKind.SUPERSEDED: "inactive",
}


class _Deployment(BaseModel):
    id: int
    task: str


_FOUND: Final = TypeAdapter(list[_Deployment])
_MADE: Final = TypeAdapter(_Deployment)


def set_status(github: GitHub, value_of: Callable[[str], str], notice: Notice, link: str) -> None:
    """Set the status of the rollout's deployment, which is made where there is none; raises NotSent."""
    repository = _Repository(github, value_of(github.token))
    task = f"canary:{notice.rollout.id}"
    number = repository.find(task)
    if number is None:
        ref = value_of(github.ref) if github.ref.startswith("env:") else github.ref
        number = repository.create(task, ref, notice)
    status = {"state": _STATES[notice.kind], "description": plain(notice.title, LONGEST_DESCRIPTION)}
    repository.ask("POST", f"/{number}/statuses", status | ({"log_url": link} if link else {}))


class _Repository:
    """The deployments of one repository to one environment."""

    def __init__(self, github: GitHub, token: str) -> None:
        base = os.environ.get(API_VARIABLE, API).rstrip("/")
        self._url = f"{base}/repos/{github.repository}/deployments"
        self._environment = github.environment
        self._headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {token}",
            "X-GitHub-Api-Version": VERSION,
        }

    def find(self, task: str) -> int | None:
        """Return the number of a rollout's deployment, if there is one."""
        asked = urlencode({"task": task, "environment": self._environment, "per_page": 1})
        answer = self.ask("GET", f"?{asked}")
        try:
            found = _FOUND.validate_json(answer)
        except ValidationError:
            raise NotSent("GitHub's list of deployments cannot be read") from None
        return next((each.id for each in found if each.task == task), None)

    def create(self, task: str, ref: str, notice: Notice) -> int:
        """Make the deployment of a rollout, whatever else GitHub would check, and return its number."""
        made = {
            "ref": ref,
            "task": task,
            "environment": self._environment,
            "description": plain(notice.title, LONGEST_DESCRIPTION),
            "auto_merge": False,
            "required_contexts": [],
        }
        try:
            return _MADE.validate_json(self.ask("POST", "", made)).id
        except ValidationError:
            raise NotSent("GitHub's new deployment cannot be read") from None

    def ask(self, method: str, path: str, value: Any = None) -> bytes:
        """Return the answer of the API; raises NotSent."""
        return call("GitHub", method, f"{self._url}{path}", self._headers, value, _HINTS)
