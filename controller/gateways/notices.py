"""Notices to people and programs: each once, in little time whatever the receivers do."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from threading import Thread
from time import monotonic
from typing import Final

from controller.core.notices import Notice, console_link
from controller.core.policy_notices import Receiver
from controller.gateways.apprise_services import keep_silent, notify, service_at
from controller.gateways.cloud_events import event_of, post, publish
from controller.gateways.github_deployments import set_status
from controller.gateways.google_sign_in import GoogleSignIn
from controller.gateways.json_http import NotSent
from controller.gateways.secret_values import ENDPOINT, SecretValues
from controller.ports import Notices

ALL_SECONDS: Final = 10.0
"""Real seconds after which nobody is waited for any longer, however much was to be sent."""
REST: Final = 60.0
"""Real seconds for which a receiver that was waited for in vain is hardly waited for: others wait, too."""
BRIEFLY: Final = 1.0
"""Real seconds that such a receiver has all the same: when the controller ends, so do its threads."""
MOST_UNDER_WAY: Final = 4
"""How many threads one receiver may keep busy; what would need another one is not sent."""
_REFERENCES: Final = ("env:", "secret:")
_TOPIC: Final = "projects/"


class NoticeGateway(Notices):
    """Sends to all receivers at once, each by a thread of its own that nothing waits for at the end."""

    def __init__(
        self,
        project: str,
        region: str,
        *,
        has_console: bool = True,
        seconds: float = ALL_SECONDS,
        secret_manager: str = ENDPOINT,
        signed_in: Callable[[str, str], Mapping[str, str]] | None = None,
    ) -> None:
        """Without a console no notice has a link: a local Cloud Run has none."""
        keep_silent()
        self._project, self._region, self._has_console = project, region, has_console
        self._seconds = seconds
        self._signed_in = signed_in or GoogleSignIn().headers
        self._secrets = SecretValues(project, self._signed_in, secret_manager)
        self._slow_until: dict[str, float] = {}
        self._under_way: dict[str, list[Thread]] = {}

    def send(self, notices: Sequence[Notice]) -> Sequence[str]:
        """Send each notice to each of its receivers once; return what failed, without anything secret."""
        by_receiver: dict[Receiver, list[Notice]] = {}
        for notice in notices:
            for receiver in notice.receivers:
                by_receiver.setdefault(receiver, []).append(notice)
        return self._done({each: partial(self._send_to, each, news) for each, news in by_receiver.items()})

    def lacking(self, receivers: Sequence[Receiver]) -> Sequence[str]:
        """Return what is missing here to tell these receivers anything, without anything secret."""
        return self._done({each: partial(self._look_at, each) for each in receivers})

    def _done(self, work: Mapping[Receiver, Callable[[], None]]) -> list[str]:
        """Do all work at once, as long as there is time, and return what failed."""
        begun, outcomes = monotonic(), dict[Receiver, str]()
        threads = {
            each: self._started(each.name, partial(_try, outcomes, each, action))
            for each, action in work.items()
        }
        problems: dict[Receiver, str] = {}
        for receiver, thread in threads.items():
            if thread is None:
                problems[receiver] = f"it is left out, as {MOST_UNDER_WAY} before it are not done yet"
                continue
            seconds = self._waited_for(receiver.name, thread, begun)
            unknown = f"it was not done in {seconds:g} s, or failed in a way that is not known"
            problems[receiver] = outcomes.get(receiver, unknown)
        return [f"the notice to {each.name}: {problem}" for each, problem in problems.items() if problem]

    def _started(self, name: str, action: Callable[[], None]) -> Thread | None:
        """Return the thread that does it after what is under way for the receiver; None for one too many."""
        before = [each for each in self._under_way.get(name, ()) if each.is_alive()]
        if len(before) >= MOST_UNDER_WAY:
            return None
        target = partial(_do_after, before[-1] if before else None, self._seconds, action)
        thread = Thread(target=target, daemon=True)
        thread.start()
        self._under_way[name] = [*before, thread]
        return thread

    def _waited_for(self, name: str, thread: Thread, begun: float) -> float:
        """Wait for a thread as long as its receiver deserves, and return how long that is."""
        is_slow = begun < self._slow_until.get(name, begun)
        seconds = min(BRIEFLY, self._seconds) if is_slow else self._seconds
        thread.join(max(0.0, begun + seconds - monotonic()))
        if not thread.is_alive():
            self._slow_until.pop(name, None)
        elif not is_slow:
            self._slow_until[name] = monotonic() + REST
        return seconds

    def _send_to(self, receiver: Receiver, notices: Sequence[Notice]) -> None:
        try:
            for notice in notices:
                self._tell(receiver, notice)
        except NotSent:
            for reference in _references(receiver):
                self._secrets.forget(reference)
            raise

    def _tell(self, receiver: Receiver, notice: Notice) -> None:
        service, value_of = notice.rollout.service, self._secrets.value_of
        link = console_link(self._project, self._region, service) if self._has_console else ""
        if receiver.github:
            set_status(receiver.github, value_of, notice, link)
        elif receiver.to:
            notify(value_of(receiver.to), notice, link)
        else:
            place = f"projects/{self._project}/locations/{self._region}/services/{service}"
            event = event_of(notice, f"//run.googleapis.com/{place}", link)
            if receiver.cloudevents.startswith(_TOPIC):
                publish(receiver.cloudevents, event, self._signed_in)
            else:
                post(self._address_of(receiver.cloudevents), event)

    def _address_of(self, text: str) -> str:
        return self._secrets.value_of(text) if text.startswith(_REFERENCES) else text

    def _look_at(self, receiver: Receiver) -> None:
        for reference in _references(receiver):
            value = self._secrets.value_of(reference)
            if receiver.to:
                service_at(value)


def _references(receiver: Receiver) -> list[str]:
    """Return the names of all that a receiver takes from somewhere else."""
    github = receiver.github
    names = [github.token, github.ref] if github else [receiver.to, receiver.cloudevents]
    return [name for name in names if name.startswith(_REFERENCES)]


def _do_after(before: Thread | None, seconds: float, action: Callable[[], None]) -> None:
    """Do it when the thread before has ended, so that news stays in order; or when that hangs for long."""
    if before:
        before.join(seconds)
    action()


def _try(outcomes: dict[Receiver, str], receiver: Receiver, action: Callable[[], None]) -> None:
    """Note how it went; what is not expected is not told, as nobody knows what its text would give away."""
    with suppress(Exception):
        try:
            action()
        except NotSent as error:
            outcomes[receiver] = str(error)
        else:
            outcomes[receiver] = ""
