"""The files that a service's repository needs: its policy, and the steps of its build."""

from typing import Final

from controller.core.setup import IMAGES, Setup

POLICY: Final = "canary.yaml"
BUILD: Final = "cloudbuild.canary.yaml"
ASKS_NOTHING: Final = "smoke: []  "
ELSEWHERE: Final = "; see custom.yaml"
ASKS: Final = "smoke: [/] "
"""Staging is asked what the smoke test asks, so it has to ask something."""


def files_of(setup: Setup, standard: str) -> dict[str, str]:
    """Return the files by name; `standard` is the text of the standard policy."""
    return {POLICY: _policy(setup, standard), BUILD: _build(setup)}


def _policy(setup: Setup, standard: str) -> str:
    """Return the policy without the line for editors, whose schema is not beside it."""
    _, _, text = standard.partition("\n#\n")
    asking = text.replace(ASKS_NOTHING, ASKS) if setup.staging else text
    plain = asking.replace(ELSEWHERE, "")
    return f"{plain}\n# All fields: canary policy reference. What this does: canary policy explain {POLICY}\n"


def _build(setup: Setup) -> str:
    staging = f"  _STAGING_SERVICE: {setup.staging}\n" if setup.staging else ""
    others = "_SERVICE=NAME,_STAGING_SERVICE=NAME" if setup.staging else "_SERVICE=NAME"
    return (
        _HEAD
        + f"# For another service: --substitutions={others},...\nsubstitutions:\n"
        + f"  _SERVICE: {setup.services[0]}\n{staging}"
        + f"  _REGION: {setup.region}\n"
        + f"  _IMAGE: ${{_REGION}}-docker.pkg.dev/${{PROJECT_ID}}/{IMAGES}/${{_SERVICE}}\n"
        + f"  _CANARY_IMAGE: {setup.image}\n"
        + f"  _POLICY: {POLICY}\n"
        + "\nsteps:\n"
        + (_STAGING if setup.staging else "")
        + _PRODUCTION
        + f"serviceAccount: projects/{setup.project}/serviceAccounts/{setup.build_account}\n"
        + _OPTIONS
    )


_HEAD: Final = """\
# Deploys an image without traffic and rolls it out in steps; the canary's exit code is the build's. Append
# the steps to those that build and push the image, or run them alone, with the tag of an image:
#   gcloud builds submit --config=cloudbuild.canary.yaml --substitutions=SHORT_SHA=TAG
"""

_STAGING: Final = """\
  # Staging takes the change at once, and is asked what the policy's smoke test and probes ask.
  - id: staging
    name: gcr.io/google.com/cloudsdktool/cloud-sdk:slim
    entrypoint: gcloud
    args:
      - run
      - deploy
      - ${_STAGING_SERVICE}
      - --image=${_IMAGE}:${SHORT_SHA}
      - --project=${PROJECT_ID}
      - --region=${_REGION}

  - id: check-staging
    name: ${_CANARY_IMAGE}
    args:
      - probe
      - ${_STAGING_SERVICE}
      - --settle=30s   # the address may lead to the revision before for some seconds
      - --project=${PROJECT_ID}
      - --region=${_REGION}
      - --policy=${_POLICY}

"""

_PRODUCTION: Final = """\
  # No user meets the new revision yet; but a first deployment has no stable to keep them on, and takes them.
  # The tag is always the same and moves on: one that stays on a revision that never started makes each later
  # deployment fail. Tag and service name may have 46 characters together, which leaves the name 37.
  # (Two dollar signs are one for the shell.)
  - id: deploy
    name: gcr.io/google.com/cloudsdktool/cloud-sdk:slim
    entrypoint: bash
    args:
      - -euc
      - |
        stable=$$(gcloud run services list --project="${PROJECT_ID}" --region="${_REGION}" \\
          --filter="metadata.name~^${_SERVICE}$$" --format="value(status.latestReadyRevisionName)")
        if [ -n "$$stable" ]; then users=--no-traffic; else users=; fi
        gcloud run deploy "${_SERVICE}" --image="${_IMAGE}:${SHORT_SHA}" --project="${PROJECT_ID}" \\
          --region="${_REGION}" --tag=candidate $$users

  # In steps, to the end. For policies that take hours add --detach: then the job follows the rollout.
  - id: canary
    name: ${_CANARY_IMAGE}
    env:
      - BUILD_ID=${BUILD_ID}       # who began it, says `canary history` then
      - COMMIT_SHA=${COMMIT_SHA}   # what was deployed, for notices to GitHub; empty in a build by hand
    args:
      - rollout
      - ${_SERVICE}
      - --project=${PROJECT_ID}
      - --region=${_REGION}
      - --policy=${_POLICY}

# The default is 60 minutes. A good release of the standard policy takes about 50, and 160 where each step has
# to wait for requests as long as it may.
timeout: 10800s
"""

_OPTIONS: Final = """\
options:
  dynamicSubstitutions: true     # lets a substitution name others, as _IMAGE does
  logging: CLOUD_LOGGING_ONLY    # a build with an account of its own must say where its log goes
"""
