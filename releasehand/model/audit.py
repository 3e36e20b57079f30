"""Who may do what, in words: the actions that are recorded, by whom, and with what outcome."""

from enum import StrEnum

from .fields import Answer, Time


class ActorKind(StrEnum):
    """What somebody who does something is known by."""

    CALLER = "caller"  # a token of the API
    AGENT = "agent"  # a certificate, or a join token that was good
    LOCAL = "local"  # an account of the controller's machine
    STRANGER = "stranger"  # nothing that is known here


class AuditAction(StrEnum):
    """What can be changed, and what strangers try."""

    START_DEPLOYMENT = "start_deployment"
    RETRY_FAILED = "retry_failed"
    CANCEL_DEPLOYMENT = "cancel_deployment"
    ROLL_BACK_INSTANCE = "roll_back_instance"
    ROLL_BACK_BATCH = "roll_back_batch"
    CANCEL_ROLLBACK = "cancel_rollback"
    RETIRE_INSTANCE = "retire_instance"
    MOVE_INSTANCE = "move_instance"
    CREATE_TOKEN = "create_token"
    REVOKE_TOKEN = "revoke_token"
    CREATE_JOIN_TOKEN = "create_join_token"
    REVOKE_JOIN_TOKEN = "revoke_join_token"
    JOIN = "join"  # an agent is given its first certificate, or one that replaces it
    RENEW_CERTIFICATE = "renew_certificate"
    REVOKE_AGENT = "revoke_agent"
    LEAVE = "leave"  # an agent gives up what it had
    ROTATE_AUTHORITY = "rotate_authority"
    AUTHENTICATE = "authenticate"  # failures only


class AuditOutcome(StrEnum):
    ACCEPTED = "accepted"  # done: recorded in the same transaction
    REFUSED = "refused"  # nothing was changed, and the same again will not change it
    FAILED = "failed"  # nothing is known to have changed: the controller could not


class AuditRecord(Answer):
    """One attempt to change something. `objects` names what it was about; long lists in it are cut, and
    `instance_count` tells how many there were."""

    id: int
    at: Time
    actor: str
    actor_kind: ActorKind
    address: str
    request_id: str
    action: AuditAction
    objects: dict[str, str | int | list[str]]
    outcome: AuditOutcome
    code: str
    message: str


class AuditList(Answer):
    """Newest first."""

    records: list[AuditRecord]
    total: int
    limit: int
    offset: int
