"""What Cloud Run refuses at once, before anything is stored."""

from google.cloud import run_v2

from controller.emulator.errors import unimplemented, violation
from controller.emulator.names import DNS_LABEL, LONGEST_REVISION
from controller.emulator.run import keys, limits, traffic

LONGEST_DESCRIPTION = 512


def check_enums(request: str, service: run_v2.Service) -> None:
    """Refuse values of enums that nobody knows; before anything else, since reading them warns."""
    limits.check_enums(f"{request}.service", run_v2.Service.pb(service))


def check(request: str, service_id: str, service: run_v2.Service, *, keeps_regions: bool) -> None:
    """Refuse what is wrong with a service; `request` is the name of the message that carries it."""
    path = f"{request}.service"
    if len(service.description) > LONGEST_DESCRIPTION:
        raise violation(
            f"{path}.description",
            f"must have at most {LONGEST_DESCRIPTION} characters, not {len(service.description)}.",
        )
    if "multi_region_settings" in service and not keeps_regions:
        raise unimplemented(
            "This local Cloud Run has services of one region only: leave out multi_region_settings, and "
            "create a service in each region."
        )
    traffic.check(service_id, list(service.traffic))
    limits.check(path, service)
    keys.check_annotations(f"{path}.annotations", service.annotations)
    keys.check_labels(f"{path}.labels", service.labels)
    _check_template(f"{path}.template", service_id, service.template)


def _check_template(path: str, service_id: str, template: run_v2.RevisionTemplate) -> None:
    keys.check_annotations(f"{path}.annotations", template.annotations)
    keys.check_template_labels(f"{path}.labels", template.labels)
    if template.revision:
        _check_revision(f"{path}.revision", service_id, template.revision)


def _check_revision(path: str, service_id: str, name: str) -> None:
    if not DNS_LABEL.fullmatch(name) or len(name) > LONGEST_REVISION:
        raise violation(path, f"'{name}' is not a DNS label of at most {LONGEST_REVISION} characters.")
    if not name.startswith(f"{service_id}-"):
        raise violation(path, f"'{name}' must start with '{service_id}-'.")
