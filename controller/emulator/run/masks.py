"""Update masks: which fields of a service a write replaces."""

from google.cloud import run_v2
from google.protobuf import field_mask_pb2

from controller.emulator.errors import invalid

# What Cloud Run answers and nobody writes.
OUTPUT_ONLY = (
    "name", "uid", "generation", "create_time", "update_time", "delete_time", "expire_time", "creator",
    "last_modifier", "urls", "observed_generation", "terminal_condition", "conditions",
    "latest_ready_revision", "latest_created_revision", "traffic_statuses", "uri", "satisfies_pzs",
    "threat_detection_enabled", "reconciling", "etag",
)  # fmt: skip


def merged(current: run_v2.Service, wanted: run_v2.Service, paths: list[str]) -> run_v2.Service:
    """Return `current` with the masked fields of `wanted`; no mask replaces all that can be written.

    Repeated fields and maps are replaced whole. Fields that this version of the API does not know are kept.
    """
    if not paths or "*" in paths:
        result = run_v2.Service(wanted)
        _copy(current, result, list(OUTPUT_ONLY))
        return result
    if not field_mask_pb2.FieldMask(paths=paths).IsValidForDescriptor(run_v2.Service.pb(current).DESCRIPTOR):
        raise invalid(
            f"Invalid update_mask: {', '.join(paths)} are not all fields of a Service.", "update_mask"
        )
    result = run_v2.Service(current)
    _copy(wanted, result, [path for path in paths if path.split(".")[0] not in OUTPUT_ONLY])
    return result


def _copy(source: run_v2.Service, target: run_v2.Service, paths: list[str]) -> None:
    mask = field_mask_pb2.FieldMask(paths=paths)
    mask.MergeMessage(
        run_v2.Service.pb(source),
        run_v2.Service.pb(target),
        replace_message_field=True,
        replace_repeated_field=True,
    )
