"""Both documents of the interface, function by function and field by field, as tables to compare with them.

设计文档 and 接口参考 describe the same functions; what is served is the union of both. A row of an answer is
`json.path  GoType`, where `progress.total` is a member of a nested struct and `instances[].status` one of a
slice of structs. A row of a request is `name  GoType  place  need  default`, where `place` is where the name
travels over HTTP (`body`, `query`, or `path` for a part of the URL) and `need` is `required`, `optional`, or
`-` where the document says nothing. Order and spelling are the documents' own."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

DESIGN: Final = "设计文档"
REFERENCE: Final = "接口参考"
_IN_ASCII: Final = {DESIGN: "design", REFERENCE: "reference"}

HTTP: Final[dict[str, tuple[str, str]]] = {
    "ExecuteDeployment": ("POST", "/v1/deployment"),
    "GetDeploymentStatus": ("GET", "/v1/deployment/{deploy_id}"),
    "CancelDeployment": ("POST", "/v1/deployment/{deploy_id}/cancel"),
    "GetServiceInstanceVersions": ("GET", "/v1/service/{service}/versions"),
    "GetServiceInstances": ("GET", "/v1/service/{service}/instances"),
    "GetInstanceVersionHistory": ("GET", "/v1/instance/{instance_id}/version-history"),
    "RollbackInstance": ("POST", "/v1/rollback/instance"),
    "RollbackBatch": ("POST", "/v1/rollback/batch"),
    "GetRollbackStatus": ("GET", "/v1/rollback/{rollback_id}"),
    "CancelRollback": ("POST", "/v1/rollback/{rollback_id}/cancel"),
    "GetSystemHealth": ("GET", "/v1/system/health"),
    "GetSystemStats": ("GET", "/v1/system/stats"),
}

BEYOND: Final[dict[str, tuple[str, str]]] = {
    "RetryFailed": ("POST", "/v1/deployment/{deploy_id}/retry-failed"),
    "RetireInstance": ("DELETE", "/v1/instance/{instance_id}"),
    "MoveInstance": ("POST", "/v1/instance/{instance_id}/move"),
    "GetDeploymentEvents": ("GET", "/v1/deployment/{deploy_id}/events"),
    "GetRollbackEvents": ("GET", "/v1/rollback/{rollback_id}/events"),
    "ListDeployments": ("GET", "/v1/deployment"),
    "ListRollbacks": ("GET", "/v1/rollback"),
    "ListServices": ("GET", "/v1/service"),
    "ListInstances": ("GET", "/v1/instance"),
    "ListAgents": ("GET", "/v1/agent"),
    "CreateToken": ("POST", "/v1/token"),
    "ListTokens": ("GET", "/v1/token"),
    "RevokeToken": ("DELETE", "/v1/token/{name}"),
    "CreateJoinToken": ("POST", "/v1/join-token"),
    "ListJoinTokens": ("GET", "/v1/join-token"),
    "RevokeJoinToken": ("DELETE", "/v1/join-token/{token_id}"),
    "RevokeAgent": ("POST", "/v1/agent/{agent_id}/revoke"),
    "ListAudit": ("GET", "/v1/audit"),
}
"""What is served beside the functions of both documents."""
"""The documents describe Go functions; only the version history has a URL of its own there."""


@dataclass(frozen=True, slots=True)
class AnswerField:
    """`path` is from `data` of the envelope."""

    function: str
    document: str
    path: str
    go_type: str

    def __str__(self) -> str:
        return f"{self.function}.{self.path}-{_IN_ASCII[self.document]}"


@dataclass(frozen=True, slots=True)
class RequestField:
    function: str
    document: str
    name: str
    go_type: str
    place: str
    need: str
    default: str

    def __str__(self) -> str:
        return f"{self.function}({self.name})-{_IN_ASCII[self.document]}"


ANSWERS: Final = """
ExecuteDeployment  设计文档 3.1.1 DeployResult
    deploy_id                     string
    status                        string
    started_at                    time.Time
ExecuteDeployment  接口参考 1.1 DeployResult
    deploy_id                     string
    service                       string
    version                       string
    status                        string
    total_instances               int
    started_at                    time.Time
GetDeploymentStatus  设计文档 3.1.2 DeployStatus
    deploy_id                     string
    service                       string
    version                       string
    status                        string
    progress.total                int
    progress.completed            int
    progress.failed               int
    progress.pending              int
    instances[].instance_id       string
    instances[].status            string
    instances[].version           string
    instances[].updated_at        time.Time
    started_at                    time.Time
    updated_at                    time.Time
GetDeploymentStatus  接口参考 1.2 DeployStatus
    deploy_id                     string
    service                       string
    version                       string
    status                        string
    progress.total                int
    progress.completed            int
    progress.failed               int
    progress.pending              int
    instances[].instance_id       string
    instances[].status            string
    instances[].current_version   string
    instances[].target_version    string
    instances[].started_at        time.Time
    instances[].completed_at      *time.Time
    instances[].error_message     string
    started_at                    time.Time
    updated_at                    time.Time
CancelDeployment  接口参考 1.3 CancelResult
    deploy_id                     string
    status                        string
    cancelled_at                  time.Time
GetServiceInstanceVersions  设计文档 3.2.1 ServiceVersions
    service                       string
    instances[].instance_id       string
    instances[].version           string
    instances[].status            string
    instances[].last_updated      time.Time
    version_summary               map[string]int
GetServiceInstanceVersions  接口参考 2.1 ServiceVersions
    service                       string
    instances[].instance_id       string
    instances[].version           string
    instances[].status            string
    instances[].last_updated      time.Time
    version_summary               map[string]int
    total_instances               int
    updated_at                    time.Time
GetServiceInstances  设计文档 3.2.2 ServiceInstances
    service                       string
    instances[].instance_id       string
    instances[].host              string
    instances[].port              int
    instances[].status            string
    instances[].version           string
    total                         int
GetServiceInstances  接口参考 2.2 ServiceInstances
    service                       string
    instances[].instance_id       string
    instances[].host              string
    instances[].port              int
    instances[].status            string
    instances[].version           string
    instances[].last_heartbeat    time.Time
    instances[].metadata          map[string]string
    total                         int
    limit                         int
    offset                        int
GetInstanceVersionHistory  接口参考 2.3, shown as JSON
    instance_id                   string
    service                       string
    history[].version             string
    history[].action              string
    history[].deploy_id           string
    history[].timestamp           time.Time
    history[].status              string
    total                         int
RollbackInstance  设计文档 3.3.1 RollbackResult
    rollback_id                   string
    instance_id                   string
    target_version                string
    status                        string
RollbackInstance  接口参考 3.1 RollbackResult
    rollback_id                   string
    instance_id                   string
    target_version                string
    status                        string
    started_at                    time.Time
RollbackBatch  设计文档 3.3.2 BatchRollbackResult
    rollback_id                   string
    service                       string
    target_version                string
    status                        string
    instances                     []string
RollbackBatch  接口参考 3.2 BatchRollbackResult
    rollback_id                   string
    service                       string
    target_version                string
    status                        string
    instances                     []string
    total_instances               int
    started_at                    time.Time
GetRollbackStatus  设计文档 3.3.3 RollbackStatus
    rollback_id                   string
    service                       string
    target_version                string
    status                        string
    instances[].instance_id       string
    instances[].status            string
    instances[].version           string
    instances[].updated_at        time.Time
    started_at                    time.Time
    completed_at                  time.Time
GetRollbackStatus  接口参考 3.3 RollbackStatus
    rollback_id                   string
    service                       string
    target_version                string
    rollback_type                 string
    status                        string
    progress.total                int
    progress.completed            int
    progress.failed               int
    progress.pending              int
    instances[].instance_id       string
    instances[].status            string
    instances[].current_version   string
    instances[].target_version    string
    instances[].started_at        time.Time
    instances[].completed_at      *time.Time
    instances[].error_message     string
    started_at                    time.Time
    completed_at                  *time.Time
CancelRollback  接口参考 3.4 CancelResult
    rollback_id                   string
    status                        string
    cancelled_at                  time.Time
GetSystemHealth  接口参考 4.1 SystemHealth
    status                        string
    version                       string
    uptime                        string
    database                      string
    cache                         string
    timestamp                     time.Time
GetSystemStats  接口参考 4.2 SystemStats
    period                        string
    deployments.total             int
    deployments.success           int
    deployments.failed            int
    deployments.success_rate      float64
    rollbacks.total               int
    rollbacks.success             int
    rollbacks.failed              int
    rollbacks.success_rate        float64
    instances.total               int
    instances.healthy             int
    instances.unhealthy           int
    timestamp                     time.Time
"""

REQUESTS: Final = """
ExecuteDeployment  设计文档 3.1.1 DeployParams
    service          string    body   -
    version          string    body   -
    instances        []string  body   -
    package_url      string    body   -
    deploy_id        string    body   -
    timeout          int       body   -
    retry_count      int       body   -
ExecuteDeployment  接口参考 1.1 DeployParams
    service          string    body   required
    version          string    body   required
    instances        []string  body   required
    package_url      string    body   required
    deploy_id        string    body   required
    timeout          int       body   optional  300
    retry_count      int       body   optional  3
GetDeploymentStatus  设计文档 3.1.2
    deploy_id        string    path   -
GetDeploymentStatus  接口参考 1.2
    deploy_id        string    path   -
CancelDeployment  接口参考 1.3
    deploy_id        string    path   -
GetServiceInstanceVersions  设计文档 3.2.1
    service          string    path   -
GetServiceInstanceVersions  接口参考 2.1
    service          string    path   -
    include_stopped  bool      query  optional  false
GetServiceInstances  设计文档 3.2.2
    service          string    path   -
GetServiceInstances  接口参考 2.2 InstanceQueryParams
    service          string    path   -
    status           string    query  -
    version          string    query  -
    limit            int       query  optional  100
    offset           int       query  optional  0
GetInstanceVersionHistory  接口参考 2.3
    instance_id      string    path   -
    limit            int       query  optional  50
    offset           int       query  optional  0
RollbackInstance  设计文档 3.3.1 InstanceRollbackParams
    instance_id      string    body   -
    target_version   string    body   -
    package_url      string    body   -
RollbackInstance  接口参考 3.1 InstanceRollbackParams
    instance_id      string    body   required
    target_version   string    body   required
    package_url      string    body   optional
    force            bool      body   optional  false
    timeout          int       body   optional  300
RollbackBatch  设计文档 3.3.2 BatchRollbackParams
    service          string    body   -
    target_version   string    body   -
    package_url      string    body   -
    instances        []string  body   -
RollbackBatch  接口参考 3.2 BatchRollbackParams
    service          string    body   required
    target_version   string    body   required
    package_url      string    body   optional
    instances        []string  body   required
    force            bool      body   optional
    timeout          int       body   optional
GetRollbackStatus  设计文档 3.3.3
    rollback_id      string    path   -
GetRollbackStatus  接口参考 3.3
    rollback_id      string    path   -
CancelRollback  接口参考 3.4
    rollback_id      string    path   -
GetSystemStats  接口参考 4.2
    period           string    query  optional  24h
"""
"""`service` in a path is the documents' serviceName and service_name; deploy_id, rollback_id and
include_stopped are their deployID, rollbackID and includeStopped."""

STATUSES: Final = ("pending", "in_progress", "completed", "failed", "cancelled")  # 接口参考 1.2 状态说明
INSTANCE_STATUSES: Final = ("running", "stopped", "error")  # 接口参考 2.2 InstanceQueryParams.Status
PERIODS: Final = ("1h", "24h", "7d", "30d")  # 接口参考 4.2

MAY_BE_NULL: Final = frozenset(
    {
        # Not a pointer in the documents; Go's encoding/json reads null as the zero time there.
        ("GetDeploymentStatus", "instances[].started_at"),  # before the first dispatch
        ("GetRollbackStatus", "instances[].started_at"),
        ("GetRollbackStatus", "completed_at"),  # a pointer in 接口参考, a value in 设计文档
    }
)


def _rows(table: str) -> Iterator[tuple[str, str, list[str]]]:
    """Function, document and the words of each row; a line that is not indented says whose rows follow."""
    function = document = ""
    for line in table.strip().splitlines():
        words = line.split()
        if line.startswith(" "):
            yield function, document, words
        else:
            function, document = words[:2]


def answer_fields() -> Iterator[AnswerField]:
    for function, document, words in _rows(ANSWERS):
        yield AnswerField(function, document, *words)


def request_fields() -> Iterator[RequestField]:
    for function, document, words in _rows(REQUESTS):
        yield RequestField(function, document, *words, *[""] * (5 - len(words)))


def body_structs() -> dict[str, dict[str, str]]:
    """Of each function with a body: Go type by field, of both documents together."""
    structs: dict[str, dict[str, str]] = {}
    for one in request_fields():
        if one.place == "body":
            structs.setdefault(one.function, {})[one.name] = one.go_type
    return structs


def answer_structs() -> dict[str, dict[str, dict[str, str]]]:
    """Of each function and document: Go type by path."""
    structs: dict[str, dict[str, dict[str, str]]] = {}
    for one in answer_fields():
        structs.setdefault(one.function, {}).setdefault(one.document, {})[one.path] = one.go_type
    return structs
