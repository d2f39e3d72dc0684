"""What a service must look like: defaults filled in, and what Cloud Run refuses at once."""

from datetime import timedelta

from google.api import launch_stage_pb2
from google.cloud import run_v2
from google.protobuf import field_mask_pb2

from controller.emulator.errors import invalid
from controller.emulator.instants import duration, seconds_of
from controller.emulator.names import DNS_LABEL, LONGEST_REVISION
from controller.emulator.run import traffic

# What a caller may set; everything else in a Service is the answer of Cloud Run.
SETTABLE = (
    "description", "labels", "annotations", "client", "client_version", "ingress", "launch_stage",
    "binary_authorization", "template", "traffic", "scaling", "invoker_iam_disabled", "default_uri_disabled",
    "iap_enabled", "multi_region_settings", "custom_audiences", "build_config",
)  # fmt: skip
RESERVED_NAMESPACES = (
    "run.googleapis.com",
    "cloud.googleapis.com",
    "serving.knative.dev",
    "autoscaling.knative.dev",
)
LARGEST_ANNOTATIONS = 256 * 1024
LONGEST_KEY_NAME = 63
LONGEST_KEY_PREFIX = 253
DEFAULT_MAX_INSTANCES = 100
DEFAULT_CONCURRENCY = 80
DEFAULT_PORT = 8080
DEFAULT_TIMEOUT = timedelta(minutes=5)
STARTUP_SECONDS = 240


def merged(current: run_v2.Service, wanted: run_v2.Service, paths: list[str]) -> run_v2.Service:
    """Return `current` with the masked fields of `wanted`; no mask replaces all that can be set."""
    known = [path for path in paths if path.split(".")[0] in SETTABLE]
    if not paths or "*" in paths:
        known = list(SETTABLE)
    mask = field_mask_pb2.FieldMask(paths=paths)
    descriptor = run_v2.Service.pb(current).DESCRIPTOR
    if "*" not in paths and not mask.IsValidForDescriptor(descriptor):
        raise invalid(
            f"Invalid update_mask: {', '.join(paths)} are not all fields of a Service.", "update_mask"
        )
    result = run_v2.Service(current)
    target = run_v2.Service.pb(result)
    field_mask_pb2.FieldMask(paths=known).MergeMessage(run_v2.Service.pb(wanted), target, True, True)
    return result


def fill_defaults(service: run_v2.Service) -> None:
    """Fill in what Cloud Run fills in."""
    if not int(service.ingress):
        service.ingress = run_v2.IngressTraffic(run_v2.IngressTraffic.INGRESS_TRAFFIC_ALL)
    if not int(service.launch_stage):
        service.launch_stage = launch_stage_pb2.GA
    service.traffic = traffic.normalised(service.traffic)
    template = service.template
    template.scaling.max_instance_count = template.scaling.max_instance_count or DEFAULT_MAX_INSTANCES
    if not seconds_of(template.timeout):
        template.timeout = duration(DEFAULT_TIMEOUT)
    template.max_instance_request_concurrency = (
        template.max_instance_request_concurrency or DEFAULT_CONCURRENCY
    )
    for container in template.containers:
        if not container.ports:
            container.ports = [run_v2.ContainerPort(name="http1", container_port=DEFAULT_PORT)]
        if "startup_probe" not in container:
            container.startup_probe = run_v2.Probe(
                timeout_seconds=STARTUP_SECONDS,
                period_seconds=STARTUP_SECONDS,
                failure_threshold=1,
                tcp_socket=run_v2.TCPSocketAction(port=container.ports[0].container_port),
            )
        container.resources.limits = container.resources.limits or {"cpu": "1000m", "memory": "512Mi"}


def check(service_id: str, service: run_v2.Service) -> None:
    """Refuse what Cloud Run refuses at once."""
    traffic.check(service_id, list(service.traffic))
    _check_keys("annotations", dict(service.annotations))
    _check_keys("labels", dict(service.labels))
    _check_template(service_id, service.template)


def _check_keys(field: str, pairs: dict[str, str]) -> None:
    for key in pairs:
        prefix, _, name = key.rpartition("/")
        if any(prefix == reserved or prefix.endswith(f".{reserved}") for reserved in RESERVED_NAMESPACES):
            raise invalid(
                f"Violation in service.{field}: '{key}' uses a reserved namespace.", f"service.{field}"
            )
        if not 0 < len(name) <= LONGEST_KEY_NAME or len(prefix) > LONGEST_KEY_PREFIX:
            raise invalid(f"Violation in service.{field}: '{key}' is not a valid key.", f"service.{field}")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in pairs.items())
    if size > LARGEST_ANNOTATIONS:
        message = f"Violation in service.{field}: total size {size} exceeds {LARGEST_ANNOTATIONS} bytes."
        raise invalid(message, f"service.{field}")


def _check_template(service_id: str, template: run_v2.RevisionTemplate) -> None:
    if not template.containers:
        raise invalid(
            "Violation in service.template.containers: must have one container.",
            "service.template.containers",
        )
    for position, container in enumerate(template.containers):
        path = f"service.template.containers[{position}].ports"
        if len(container.ports) > 1:
            raise invalid(f"Violation in {path}: ports should contain 0 or 1 port.", path)
    name, path = template.revision, "service.template.revision"
    if not name:
        return
    if not DNS_LABEL.fullmatch(name) or len(name) > LONGEST_REVISION:
        raise invalid(f"Violation in {path}: '{name}' is not a DNS label of at most 63 characters.", path)
    if not name.startswith(f"{service_id}-"):
        raise invalid(f"Violation in {path}: '{name}' must start with '{service_id}-'.", path)
