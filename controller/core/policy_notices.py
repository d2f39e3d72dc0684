"""The notices of a policy: who is told what becomes of a rollout, and of which news."""

import re
from itertools import takewhile
from typing import Annotated, Final, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from controller.core.mistakes import Mistake, Path, PolicyInvalid, nearest
from controller.core.policy_choices import NoticeKind
from controller.core.policy_fields import off_as_none
from controller.core.policy_parts import Fields, Part, fields_of
from controller.core.units import UnitInvalid, shown

MOST_RECEIVERS: Final = 10
WAYS: Final = ("to", "cloudevents", "github")
"""The fields of a receiver of which it has one."""
_ELSEWHERE: Final = (
    r"env:[A-Za-z_][A-Za-z0-9_]{0,99}|secret:[A-Za-z0-9_-]{1,255}|"
    r"secret:projects/[a-z0-9:.-]{1,63}/secrets/[A-Za-z0-9_-]{1,255}(/versions/(latest|[0-9]{1,9}))?"
)
_TOPIC: Final = r"projects/[a-z0-9:.-]{1,63}/topics/[A-Za-z][A-Za-z0-9._~+%-]{2,254}"
_PLAIN_URL: Final = r"https://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{0,500})?"
_REPOSITORY: Final = r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}"
_REF: Final = r"env:[A-Za-z_][A-Za-z0-9_]{0,99}|[A-Za-z0-9][A-Za-z0-9._/-]{0,199}"
_ENVIRONMENT: Final = r"[A-Za-z0-9][A-Za-z0-9 ._/-]{0,99}"


def _text(pattern: str, title: str, complaint: str) -> tuple[BeforeValidator, WithJsonSchema]:
    """Return how a text is read and described; what was written is not told, as it may be a secret."""

    def parse(value: object) -> str:
        if not (isinstance(value, str) and re.fullmatch(pattern, value)):
            raise UnitInvalid(complaint)
        return value

    schema = {"title": title, "type": "string", "pattern": f"^({pattern})$"}
    return BeforeValidator(parse), WithJsonSchema(schema)


_IN_THE_OPEN: Final = "a policy is kept in the open; write env:NAME or secret:NAME, which say where it stands"
_KINDS: Final = [str(kind) for kind in NoticeKind]


def _parse_kinds(value: object) -> tuple[NoticeKind, ...]:
    entries = value if isinstance(value, list | tuple) else [value]
    if not entries:
        raise UnitInvalid(f"there must be at least one kind of {', '.join(_KINDS)}")
    mistakes = [
        Mistake((index,), f"expected one of {', '.join(_KINDS)}, not {shown(entry)}{nearest(entry, _KINDS)}")
        for index, entry in enumerate(entries)
        if entry not in _KINDS
    ]
    if mistakes:
        raise PolicyInvalid(mistakes)
    return tuple(kind for kind in NoticeKind if kind in entries)


class GitHub(Part):
    """A deployment on GitHub that shows how the rollout stands; written short as its repository."""

    repository: Annotated[
        str, *_text(_REPOSITORY, "owner/name", "expected a repository such as owner/name")
    ] = Field(description="Repository that the deployment belongs to.")
    ref: Annotated[
        str, *_text(_REF, "commit, branch, tag or env:NAME", "expected a commit, a branch, a tag or env:NAME")
    ] = Field(default="env:COMMIT_SHA", description="What was deployed; Cloud Build knows it.")
    environment: Annotated[
        str, *_text(_ENVIRONMENT, "name", "expected a name such as production, of letters and digits")
    ] = Field(default="production", description="Environment that it was deployed to.")
    token: Annotated[str, *_text(_ELSEWHERE, "env:NAME or secret:NAME", _IN_THE_OPEN)] = Field(
        default="env:GITHUB_TOKEN", description="Token that may write deployments of the repository."
    )

    @classmethod
    def _read(cls, value: object) -> Fields:
        return fields_of(value, "repository", "a repository such as owner/name, or a mapping")


class Receiver(Part):
    """Who is told, in one of three ways, and of what; written short as `to`."""

    to: Annotated[
        str, *_text(f"|{_ELSEWHERE}", "env:NAME or secret:NAME", f"an address is a secret: {_IN_THE_OPEN}")
    ] = Field(
        default="",
        description="Where the address of a chat, mailbox, pager or webhook stands, in apprise's form.",
    )
    cloudevents: Annotated[
        str,
        *_text(
            f"|{_ELSEWHERE}|{_TOPIC}|{_PLAIN_URL}",
            "https://..., projects/P/topics/T, env:NAME or secret:NAME",
            "expected https://HOST/PATH, projects/PROJECT/topics/TOPIC, env:NAME or secret:NAME; an address"
            " with a password or with anything after a question mark is a secret",
        ),
    ] = Field(default="", description="Address or Pub/Sub topic that gets each notice as a CloudEvent.")
    github: Annotated[GitHub | None, BeforeValidator(off_as_none)] = Field(
        default=None, description="Deployment on GitHub whose status follows the rollout."
    )
    on: Annotated[
        tuple[NoticeKind, ...],
        BeforeValidator(_parse_kinds),
        WithJsonSchema(
            {
                "title": f"list of {', '.join(_KINDS)}",
                "type": "array",
                "items": {"type": "string", "enum": _KINDS},
                "minItems": 1,
            }
        ),
    ] = Field(default=tuple(NoticeKind), description="Which news it gets.")

    @classmethod
    def _read(cls, value: object) -> Fields:
        return fields_of(value, "to", "env:NAME, secret:NAME or a mapping such as {to: env:NAME}")

    @model_validator(mode="after")
    def _check_ways(self) -> Self:
        if sum(bool(getattr(self, way)) for way in WAYS) != 1:
            raise PolicyInvalid([Mistake((), f"expected one of {', '.join(WAYS)}; write several receivers")])
        return self

    @property
    def name(self) -> str:
        """The receiver as it is called where something is said of it; never its address."""
        if self.github:
            return f"github {self.github.repository}, {self.github.environment}"
        return self.to or f"cloudevents {self.cloudevents}"


_NAMES: Final = {"notices", *Receiver.model_fields, *GitHub.model_fields}


def without_secrets(path: Path) -> Path:
    """Return a path up to where it is one of notices; what else stands there may be an address, a secret."""
    if path[:1] != ("notices",):
        return path
    return tuple(takewhile(lambda part: isinstance(part, int) or part in _NAMES, path))


def receivers_of(value: object) -> object:
    """Read a list of receivers, or a single one; raises UnitInvalid."""
    entries = value if isinstance(value, list | tuple) else [value]
    if len(entries) > MOST_RECEIVERS:
        raise UnitInvalid(f"at most {MOST_RECEIVERS} receivers, not {len(entries)}")
    return entries


def check_each_told_once(receivers: tuple[Receiver, ...]) -> tuple[Receiver, ...]:
    """Refuse a receiver that is there twice: it would be told everything twice."""
    doubles = [
        Mistake((index,), f"{each.name} is told already; take one of them away")
        for index, each in enumerate(receivers)
        if each.name in {other.name for other in receivers[:index]}
    ]
    if doubles:
        raise PolicyInvalid(doubles)
    return receivers
