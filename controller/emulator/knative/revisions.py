"""A revision: v2's message as v1's JSON."""

from google.cloud import run_v2
from google.protobuf import json_format

from controller.emulator.images import digest_of
from controller.emulator.knative.services import API_VERSION, CREATOR, LOCATION
from controller.emulator.knative.shapes import Json, without_empty
from controller.emulator.knative.status import conditions_to_v1
from controller.emulator.knative.templates import template_to_v1
from controller.emulator.run.etags import version_of

SERVICE = "serving.knative.dev/service"
CONFIGURATION = "serving.knative.dev/configuration"


def revision_to_v1(revision: run_v2.Revision) -> Json:
    """Return the v1 revision."""
    fields = json_format.MessageToDict(run_v2.Revision.pb(revision))
    _, project, _, location, _, service, _, name = revision.name.split("/")
    metadata, spec = template_to_v1(fields)
    images = [container.image for container in revision.containers]
    return {
        "apiVersion": API_VERSION,
        "kind": "Revision",
        "metadata": without_empty(
            {
                "name": name,
                "namespace": project,
                "uid": revision.uid,
                "resourceVersion": version_of(revision.etag),
                "generation": int(revision.generation),
                "creationTimestamp": fields.get("createTime"),
                "deletionTimestamp": fields.get("deleteTime"),
                "labels": {
                    **metadata.get("labels", {}),
                    SERVICE: service,
                    CONFIGURATION: service,
                    LOCATION: location,
                },
                "annotations": {**metadata.get("annotations", {}), CREATOR: revision.creator},
            }
        ),
        "spec": spec,
        "status": without_empty(
            {
                "observedGeneration": int(revision.observed_generation),
                "conditions": conditions_to_v1(fields.get("conditions", []), is_going="deleteTime" in fields),
                "imageDigest": digest_of(images[0]) if images else "",
                "logUrl": revision.log_uri,
            }
        ),
    }
