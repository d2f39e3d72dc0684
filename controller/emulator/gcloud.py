"""The environment in which an unmodified gcloud, and canary, work against a local Cloud Run."""

from pathlib import Path
from urllib.parse import quote

from controller.emulator.calls import DEFAULT_PRINCIPAL
from controller.emulator.state import LocalState
from controller.principal import VARIABLE

CONFIG = "CLOUDSDK_CONFIG"
AUTH = "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"
OVERRIDE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_"
APIS = ("LOGGING", "SERVICEUSAGE", "CLOUDRESOURCEMANAGER", "MONITORING", "CLOUDBUILD")
"""APIs that gcloud must not ask Google for; not all of them are served, and what is not says so."""


def environment(local: LocalState, directory: Path, principal: str = "") -> dict[str, str]:
    """Return the variables. What gcloud keeps, and its token, the principal's name, go into `directory`."""
    caller = principal or DEFAULT_PRINCIPAL
    token = str(_token_file(directory, caller))
    return {**_of(local), CONFIG: str(directory), AUTH: token, VARIABLE: caller}


def variables() -> list[str]:
    """Return the names of all variables that may be set."""
    return [*_of(LocalState("", "", "", "", "", 1.0, 0)), CONFIG, AUTH, VARIABLE]


def _of(local: LocalState) -> dict[str, str]:
    """Return what leads to the local Cloud Run.

    It is gcloud's proxy too: regional hosts such as `europe-west1-run.localhost` then need no DNS, and an API
    without an override is refused instead of reaching Google.
    """
    host, _, port = local.admin_address.rpartition(":")
    return {
        "CLOUDSDK_PROXY_TYPE": "http",
        "CLOUDSDK_PROXY_ADDRESS": host,
        "CLOUDSDK_PROXY_PORT": port,
        f"{OVERRIDE}RUN": f"http://run.localhost:{port}/",
        **{f"{OVERRIDE}{api}": f"http://{local.admin_address}/" for api in APIS},
        "CLOUDSDK_CORE_PROJECT": local.project,
        "CLOUDSDK_RUN_REGION": local.region,
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_SHOULD_PROMPT_TO_ENABLE_API": "false",
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        "CLOUD_RUN_EMULATOR_HOST": local.grpc_address,
        "GOOGLE_CLOUD_PROJECT": local.project,
        "CLOUD_RUN_REGION": local.region,
    }


def _token_file(directory: Path, principal: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"token-of-{quote(principal, safe='@')}"
    path.write_text(principal, encoding="utf-8")
    return path
