"""Chats, mailboxes, pagers and webhooks, by apprise: their addresses are secrets, so it may log nothing."""

import logging
from typing import Final

from apprise import Apprise, AppriseAsset, NotifyBase, NotifyFormat, NotifyType

from controller.core.notices import Notice
from controller.gateways.json_http import SECONDS, NotSent

_TALKATIVE: Final = ("apprise", "urllib3", "requests_oauthlib", "oauthlib")
"""Loggers that write addresses, and with them tokens."""
_ASSET: Final = AppriseAsset(
    app_id="cloud-run-canary", app_desc="Canary rollouts for Cloud Run", async_mode=False
)


def keep_silent() -> None:
    """Keep apprise, and what it calls, from writing addresses to any log."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def service_at(address: str) -> NotifyBase:
    """Return the service at an address; raises NotSent where apprise knows none."""
    service = Apprise.instantiate(address, asset=_ASSET)
    if service is None:
        raise NotSent(
            "what stands there is no address that apprise knows, such as slack://... or mailto://...; see"
            " https://appriseit.com/services"
        )
    # What is told quotes strangers, and must not be taken for markup.
    service.notify_format = NotifyFormat.TEXT
    service.socket_connect_timeout = service.socket_read_timeout = SECONDS
    return service


def notify(address: str, notice: Notice, link: str) -> None:
    """Tell a service; raises NotSent. It is not tried again."""
    body = f"{notice.body}\n{link}" if link else notice.body
    sent = service_at(address).notify(
        title=notice.title, body=body, notify_type=NotifyType(notice.weight.value)
    )
    if not sent:
        raise NotSent("the service cannot be reached or refused it; try its address with the command apprise")
