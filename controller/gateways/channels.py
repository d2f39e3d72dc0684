"""Channels to a local Cloud Run; the clients of Google's own open theirs by themselves."""

import grpc

OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # a proxy of the environment would capture even loopback
    ("grpc.max_receive_message_length", -1),  # as Google's clients have it; a page of a list may be large
)


def local(address: str) -> grpc.Channel:
    """Open a channel to a local Cloud Run at HOST:PORT."""
    channel: grpc.Channel = grpc.insecure_channel(address, options=OPTIONS)
    return channel
