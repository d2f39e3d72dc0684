"""REST methods that are gRPC methods by another way: Cloud Run v2, IAM, Locations, Logging."""

from google.cloud import run_v2
from google.cloud.location import locations_pb2
from google.cloud.logging_v2 import types as logging_v2
from google.iam.v1 import iam_policy_pb2
from google.longrunning import operations_pb2

from controller.emulator.knative.transcoding import Rule

SERVICES = "/google.cloud.run.v2.Services"
REVISIONS = "/google.cloud.run.v2.Revisions"
JOBS = "/google.cloud.run.v2.Jobs"
EXECUTIONS = "/google.cloud.run.v2.Executions"
TASKS = "/google.cloud.run.v2.Tasks"
OPERATIONS = "/google.longrunning.Operations"
LOCATIONS = "/google.cloud.location.Locations"
LOGGING = "/google.logging.v2.LoggingServiceV2"

_LOCATION = "projects/*/locations/*"
_SERVICE = f"{_LOCATION}/services/*"
_REVISION = f"{_SERVICE}/revisions/*"
_JOB = f"{_LOCATION}/jobs/*"
_EXECUTION = f"{_JOB}/executions/*"
_OPERATION = f"{_LOCATION}/operations/*"


def _services() -> tuple[Rule, ...]:
    of_all, named, v2 = f"/v2/{{parent={_LOCATION}}}/services", f"/v2/{{name={_SERVICE}}}", run_v2
    of_update = f"/v2/{{service.name={_SERVICE}}}"
    return (
        Rule("POST", of_all, f"{SERVICES}/CreateService", v2.CreateServiceRequest, "service"),
        Rule("GET", of_all, f"{SERVICES}/ListServices", v2.ListServicesRequest),
        Rule("GET", named, f"{SERVICES}/GetService", v2.GetServiceRequest),
        Rule("PATCH", of_update, f"{SERVICES}/UpdateService", v2.UpdateServiceRequest, "service"),
        Rule("DELETE", named, f"{SERVICES}/DeleteService", v2.DeleteServiceRequest),
    )


def _revisions() -> tuple[Rule, ...]:
    of_all, named, v2 = f"/v2/{{parent={_SERVICE}}}/revisions", f"/v2/{{name={_REVISION}}}", run_v2
    return (
        Rule("GET", of_all, f"{REVISIONS}/ListRevisions", v2.ListRevisionsRequest),
        Rule("GET", named, f"{REVISIONS}/GetRevision", v2.GetRevisionRequest),
        Rule("DELETE", named, f"{REVISIONS}/DeleteRevision", v2.DeleteRevisionRequest),
    )


def _jobs() -> tuple[Rule, ...]:
    of_all, named, v2 = f"/v2/{{parent={_LOCATION}}}/jobs", f"/v2/{{name={_JOB}}}", run_v2
    of_update = f"/v2/{{job.name={_JOB}}}"
    return (
        Rule("POST", of_all, f"{JOBS}/CreateJob", v2.CreateJobRequest, "job"),
        Rule("GET", of_all, f"{JOBS}/ListJobs", v2.ListJobsRequest),
        Rule("GET", named, f"{JOBS}/GetJob", v2.GetJobRequest),
        Rule("PATCH", of_update, f"{JOBS}/UpdateJob", v2.UpdateJobRequest, "job"),
        Rule("DELETE", named, f"{JOBS}/DeleteJob", v2.DeleteJobRequest),
        Rule("POST", f"{named}:run", f"{JOBS}/RunJob", v2.RunJobRequest, "*"),
    )


def _executions() -> tuple[Rule, ...]:
    of_all, named, v2 = f"/v2/{{parent={_JOB}}}/executions", f"/v2/{{name={_EXECUTION}}}", run_v2
    of_tasks, of_task = f"/v2/{{parent={_EXECUTION}}}/tasks", f"/v2/{{name={_EXECUTION}/tasks/*}}"
    return (
        Rule("GET", of_all, f"{EXECUTIONS}/ListExecutions", v2.ListExecutionsRequest),
        Rule("GET", named, f"{EXECUTIONS}/GetExecution", v2.GetExecutionRequest),
        Rule("POST", f"{named}:cancel", f"{EXECUTIONS}/CancelExecution", v2.CancelExecutionRequest, "*"),
        Rule("GET", of_tasks, f"{TASKS}/ListTasks", v2.ListTasksRequest),
        Rule("GET", of_task, f"{TASKS}/GetTask", v2.GetTaskRequest),
    )


def _operations() -> tuple[Rule, ...]:
    of_all, named, lro = f"/v2/{{name={_LOCATION}}}/operations", f"/v2/{{name={_OPERATION}}}", operations_pb2
    return (
        Rule("GET", of_all, f"{OPERATIONS}/ListOperations", lro.ListOperationsRequest),
        Rule("GET", named, f"{OPERATIONS}/GetOperation", lro.GetOperationRequest),
        Rule("DELETE", named, f"{OPERATIONS}/DeleteOperation", lro.DeleteOperationRequest),
        Rule("POST", f"{named}:wait", f"{OPERATIONS}/WaitOperation", lro.WaitOperationRequest, "*"),
    )


def _policies(version: str) -> tuple[Rule, ...]:
    of, iam = f"/{version}/{{resource={_SERVICE}}}", iam_policy_pb2
    test = f"{SERVICES}/TestIamPermissions"
    return (
        Rule("GET", f"{of}:getIamPolicy", f"{SERVICES}/GetIamPolicy", iam.GetIamPolicyRequest),
        Rule("POST", f"{of}:setIamPolicy", f"{SERVICES}/SetIamPolicy", iam.SetIamPolicyRequest, "*"),
        Rule("POST", f"{of}:testIamPermissions", test, iam.TestIamPermissionsRequest, "*"),
    )


def _others() -> tuple[Rule, ...]:
    list_locations, locations = f"{LOCATIONS}/ListLocations", locations_pb2.ListLocationsRequest
    return (
        Rule("GET", "/v1/{name=projects/*}/locations", list_locations, locations),
        Rule("POST", "/v2/entries:list", f"{LOGGING}/ListLogEntries", logging_v2.ListLogEntriesRequest, "*"),
        Rule(
            "POST", "/v2/entries:write", f"{LOGGING}/WriteLogEntries", logging_v2.WriteLogEntriesRequest, "*"
        ),
        Rule("GET", "/v2/{parent=projects/*}/logs", f"{LOGGING}/ListLogs", logging_v2.ListLogsRequest),
    )


RULES = (
    *_services(),
    *_revisions(),
    *_jobs(),
    *_executions(),
    *_operations(),
    *_policies("v1"),
    *_policies("v2"),
    *_others(),
)
