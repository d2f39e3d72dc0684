"""What Cloud Run fills in where a job says nothing, and what it refuses."""

from datetime import timedelta

from google.api import launch_stage_pb2
from google.cloud import run_v2

from controller.emulator.errors import unimplemented, violation
from controller.emulator.instants import duration
from controller.emulator.names import default_service_account
from controller.emulator.run import keys, limits
from controller.emulator.run.defaults import LIMITS

RETRIES, MOST_RETRIES = 3, 10
TIMEOUT, LONGEST_TIMEOUT = timedelta(minutes=10), timedelta(days=7)


def fill_in(job: run_v2.Job) -> None:
    """Fill in the defaults of a job and its template."""
    if not int(job.launch_stage):
        job.launch_stage = launch_stage_pb2.GA
    job.template.task_count = job.template.task_count or 1
    task = job.template.template
    if "max_retries" not in task:
        task.max_retries = RETRIES
    if not run_v2.TaskTemplate.pb(task).timeout.ToNanoseconds():
        task.timeout = duration(TIMEOUT)
    task.service_account = task.service_account or default_service_account(job.name.split("/")[1])
    for container in task.containers:
        for name, limit in LIMITS.items():
            if name not in container.resources.limits:
                container.resources.limits[name] = limit


def check(request: str, job: run_v2.Job) -> None:
    """Refuse what is wrong with a job; `request` is the name of the message that carries it."""
    path = f"{request}.job"
    limits.check_enums(path, run_v2.Job.pb(job))
    keys.check_annotations(f"{path}.annotations", job.annotations)
    keys.check_labels(f"{path}.labels", job.labels)
    check_template(f"{path}.template", job.template)


def check_template(path: str, template: run_v2.ExecutionTemplate) -> None:
    """Refuse what is wrong with the template of an execution, of a job or as a run overrides it."""
    keys.check_annotations(f"{path}.annotations", template.annotations)
    keys.check_template_labels(f"{path}.labels", template.labels)
    task = template.template
    if template.task_count > 1:
        raise unimplemented("This local Cloud Run runs one task of an execution: set task_count to 1.")
    if not task.containers:
        raise violation(f"{path}.template.containers", "must have one container.")
    if len(task.containers) > 1:
        raise unimplemented("This local Cloud Run runs jobs of one container: leave out the others.")
    if not 0 <= task.max_retries <= MOST_RETRIES:
        raise violation(f"{path}.template.max_retries", f"must be from 0 to {MOST_RETRIES}.")
    seconds = run_v2.TaskTemplate.pb(task).timeout.ToSeconds()
    if not 0 <= seconds <= LONGEST_TIMEOUT.total_seconds():
        raise violation(
            f"{path}.template.timeout",
            f"must be from 0 to {LONGEST_TIMEOUT.total_seconds():.0f} seconds, not {seconds}.",
        )
