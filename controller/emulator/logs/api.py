"""google.logging.v2.LoggingServiceV2, but for TailLogEntries."""

from typing import Any

from google.api import label_pb2, monitored_resource_pb2
from google.cloud.logging_v2 import types
from google.protobuf import empty_pb2

from controller.emulator.calls import Call, Method, Methods
from controller.emulator.errors import invalid
from controller.emulator.logs.entries import JOB, REVISION, log_name
from controller.emulator.logs.listing import Listing, ListLogEntriesResponse, project_of
from controller.emulator.logs.messages import log_id_of
from controller.emulator.logs.store import Logs
from controller.emulator.logs.writing import Writing
from controller.emulator.names import by_id
from controller.emulator.paging import paged
from controller.emulator.settings import Settings

LARGEST_PAGE = 1000
RESOURCES = {
    REVISION: (
        "Cloud Run Revision",
        ("project_id", "service_name", "revision_name", "location", "configuration_name"),
    ),
    JOB: ("Cloud Run Job", ("project_id", "job_name", "location")),
    "global": ("Global", ("project_id",)),
}


class LoggingApi:
    """Answers from the store, and adds to it."""

    def __init__(self, store: Logs, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._listing = Listing(store, settings)
        self._writing = Writing(store)

    def methods(self) -> Methods:
        """Return the methods by service and name."""
        return {
            "google.logging.v2.LoggingServiceV2": {
                "ListLogEntries": Method(
                    self._listing.answer,
                    types.ListLogEntriesRequest.deserialize,
                    ListLogEntriesResponse.SerializeToString,
                ),
                "WriteLogEntries": Method(
                    self._writing.write,
                    types.WriteLogEntriesRequest.deserialize,
                    types.WriteLogEntriesResponse.serialize,
                ),
                "ListLogs": Method(
                    self._list_logs, types.ListLogsRequest.deserialize, types.ListLogsResponse.serialize
                ),
                "DeleteLog": Method(
                    self._delete_log, types.DeleteLogRequest.deserialize, empty_pb2.Empty.SerializeToString
                ),
                "ListMonitoredResourceDescriptors": Method(
                    _list_resources,
                    types.ListMonitoredResourceDescriptorsRequest.deserialize,
                    types.ListMonitoredResourceDescriptorsResponse.serialize,
                ),
            }
        }

    def _list_logs(self, _: Call, request: types.ListLogsRequest) -> types.ListLogsResponse:
        """List the names of logs that have entries."""
        names = [request.parent, *request.resource_names]
        projects = {project_of(by_id(name, self._settings.project)) for name in names if name}
        origins = {entry.origin for entry in self._store.all()}
        found = sorted({origin.log_name for origin in origins if origin.project in projects})
        page, token = paged(found, request.page_size, request.page_token, LARGEST_PAGE)
        return types.ListLogsResponse(log_names=page, next_page_token=token)

    def _delete_log(self, call: Call, request: types.DeleteLogRequest) -> empty_pb2.Empty:
        project, log_id = log_id_of(by_id(request.log_name, self._settings.project))
        if not project:
            raise invalid(
                f"'{request.log_name}' is not of the form projects/PROJECT/logs/LOG_ID.", "log_name"
            )
        self._store.delete(log_name(project, log_id), call.now)
        return empty_pb2.Empty()


def _list_resources(_: Call, __: Any) -> types.ListMonitoredResourceDescriptorsResponse:
    descriptors = [
        monitored_resource_pb2.MonitoredResourceDescriptor(
            type=name, display_name=title, labels=[label_pb2.LabelDescriptor(key=key) for key in labels]
        )
        for name, (title, labels) in RESOURCES.items()
    ]
    return types.ListMonitoredResourceDescriptorsResponse(resource_descriptors=descriptors)
