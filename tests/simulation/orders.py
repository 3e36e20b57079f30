"""What schedulers ask for, in any order."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from controller.core.refusals import (
    AlreadyEndedError,
    DeployIdConflictError,
    NotEndedError,
    NothingFailedError,
)
from releasehand.model import (
    NO_RETRIES,
    BatchRollbackParams,
    DeployParams,
    InstanceRollbackParams,
    OperationKind,
    RetryFailedParams,
)
from tests.simulation.fleet import ACTOR
from tests.simulation.host import SERVICE, digest_of, url_of
from tests.simulation.run import (
    INSTANCES,
    REFUSED,
    TIMEOUTS_S,
    FleetRun,
    hold,
    kinds,
    some_instances,
    timeouts,
)


class Orders(FleetRun):
    """Deployments, rollbacks, retries and cancels."""

    @rule(
        instances=some_instances,
        kind=kinds,
        timeout_s=timeouts,
        retries=st.sampled_from([NO_RETRIES, 1, 3]),
        digest=st.booleans(),
        together=st.sampled_from([True, False, False]),
    )
    def deploy(
        self, instances: list[str], kind: str, timeout_s: int, retries: int, digest: bool, together: bool
    ) -> None:
        """One deployment of all, or one of each."""
        self._deploy_to(
            [instances] if together else [[name] for name in instances], kind, timeout_s, retries, digest
        )

    @rule(kind=kinds, timeout_s=timeouts, digest=st.booleans(), seconds=st.sampled_from([0.3, 1.0, 2.0, 4.0]))
    def deploy_everywhere(self, kind: str, timeout_s: int, digest: bool, seconds: float) -> None:
        """One deployment of each instance there is, and some time for them."""
        self._deploy_to([[name] for name in INSTANCES], kind, timeout_s, 1, digest)
        self.run(self.fleet.pass_time(seconds))

    @rule(back=st.integers(0, 20), force=st.booleans(), seconds=st.sampled_from([0.3, 2.0, 4.0]))
    def roll_back_everywhere(self, back: int, force: bool, seconds: float) -> None:
        """The same for rollbacks, one half of the instances after the other."""
        for instance in INSTANCES[:: 1 + back % 2]:
            self.roll_back(instance, force, TIMEOUTS_S[1], back)
        self.run(self.fleet.pass_time(seconds))

    def _deploy_to(
        self, targets: list[list[str]], kind: str, timeout_s: int, retries: int, digest: bool
    ) -> None:
        for names in targets:
            self.number += 1
            version = f"v{self.number}-{kind}"
            params = DeployParams(
                service=SERVICE,
                version=version,
                instances=names,
                package_url=url_of(version),
                package_sha256=digest_of(version) if digest else "",
                deploy_id=f"d{self.number}",
                timeout=timeout_s,
                retry_count=retries,
            )
            self.asked.append(params)
            self.run(self._deploy(params))

    @precondition(lambda self: self.asked)
    @rule(pick=st.integers(0, 3), otherwise=st.booleans())
    def deploy_again(self, pick: int, otherwise: bool) -> None:
        """The same call once more: what was accepted is not started twice; what got no answer may be. An id
        that was used, with another body, is refused."""
        params = self.asked[-1 - pick % len(self.asked)]
        if not otherwise:
            self.run(self._deploy(params))
        elif params.deploy_id in self.memory.promises:
            self.run(self._deploy_otherwise(params.model_copy(update={"version": "another"})))

    async def _deploy(self, params: DeployParams) -> None:
        known = params.deploy_id in self.memory.promises
        try:
            accepted = await self.fleet.call(lambda store: store.accept_deployment(params, actor=ACTOR))
        except REFUSED:
            hold([f"{params.deploy_id} was accepted and is now refused"] if known else [])
            return
        if accepted is not None:
            hold([f"{params.deploy_id} was accepted twice"] if known and not accepted.repeated else [])
            self.promise(OperationKind.DEPLOYMENT, params.deploy_id, params.instances, accepted.task_ids)

    async def _deploy_otherwise(self, params: DeployParams) -> None:
        told = ""
        try:
            if await self.fleet.call(lambda store: store.accept_deployment(params, actor=ACTOR)) is None:
                return
        except DeployIdConflictError as refusal:
            told = refusal.field
        hold([] if told == "version" else [f"{params.deploy_id} with another version was answered: {told}"])

    @rule(
        instance=st.sampled_from(INSTANCES), force=st.booleans(), timeout_s=timeouts, back=st.integers(0, 6)
    )
    def roll_back(self, instance: str, force: bool, timeout_s: int, back: int) -> None:
        params = InstanceRollbackParams(
            instance_id=instance, target_version=self._target(back), force=force, timeout=timeout_s
        )
        self.number += 1
        self.run(self._roll_back(params, f"key-{self.number}"))

    async def _roll_back(self, params: InstanceRollbackParams, key: str) -> None:
        """Asked for twice with one key: the second finds what the first has started."""
        found = set()
        for _ in range(2):
            try:
                accepted = await self.fleet.call(
                    lambda store: store.accept_instance_rollback(params, actor=ACTOR, idempotency_key=key)
                )
            except REFUSED:
                return
            if accepted is not None:
                name = accepted.result.rollback_id
                found.add(name)
                self.promise(OperationKind.ROLLBACK, name, [params.instance_id], accepted.task_ids)
        hold([f"{key} has started {found}"] if len(found) > 1 else [])

    @rule(instances=some_instances, force=st.booleans(), timeout_s=timeouts, back=st.integers(0, 6))
    def roll_back_many(self, instances: list[str], force: bool, timeout_s: int, back: int) -> None:
        params = BatchRollbackParams(
            service=SERVICE,
            instances=instances,
            target_version=self._target(back),
            force=force,
            timeout=timeout_s,
        )
        self.run(self._roll_back_many(params))

    async def _roll_back_many(self, params: BatchRollbackParams) -> None:
        try:
            accepted = await self.fleet.call(
                lambda store: store.accept_batch_rollback(params, actor=ACTOR, idempotency_key=None)
            )
        except REFUSED:
            return
        if accepted is not None:
            name = accepted.result.rollback_id
            self.promise(OperationKind.ROLLBACK, name, params.instances, accepted.task_ids)

    @precondition(lambda self: self.operations)
    @rule(pick=st.integers(0, 5))
    def cancel(self, pick: int) -> None:
        self.run(self._cancel(*self.operations[-1 - pick % len(self.operations)]))

    async def _cancel(self, kind: OperationKind, name: str) -> None:
        try:
            cancelled = await self.fleet.call(lambda store: store.cancel(kind, name, actor=ACTOR))
        except AlreadyEndedError:
            return
        if cancelled is not None:
            self.tally["cancels"] += 1
            self.fleet.controller.wake(cancelled.task_ids)

    def _target(self, back: int) -> str:
        return self.asked[-min(back, len(self.asked))].version if back and self.asked else "previous"

    @precondition(lambda self: self.operations)
    @rule(pick=st.integers(0, 30))
    def retry_failed(self, pick: int) -> None:
        """Of an operation picked from the end; twice with one id, the second of which starts nothing."""
        kind, name = self.operations[-1 - pick % len(self.operations)]
        if kind is OperationKind.DEPLOYMENT:
            self.number += 1
            self.run(self._retry_failed(name, RetryFailedParams(deploy_id=f"r{self.number}")))

    async def _retry_failed(self, name: str, params: RetryFailedParams) -> None:
        for _ in range(2):
            known = params.deploy_id in self.memory.promises
            try:
                accepted = await self.fleet.call(lambda store: store.accept_retry(name, params, actor=ACTOR))
            except NotEndedError:
                return
            except (*REFUSED, NothingFailedError) as refusal:
                nothing = isinstance(refusal, NothingFailedError) and self._failed_in(name)
                hold([f"{name}: nothing failed, but {nothing}"] if nothing else [])
                hold([f"{params.deploy_id} was accepted and is now refused: {refusal}"] if known else [])
                return
            if accepted is not None:
                hold([f"{params.deploy_id} was accepted twice"] if known and not accepted.repeated else [])
                self.promise(
                    OperationKind.DEPLOYMENT, params.deploy_id, self._failed_in(name), accepted.task_ids
                )
                self.tally["retries of what failed"] += not known

    def _failed_in(self, name: str) -> list[str]:
        rows = self.fleet.query(
            "SELECT instance_id FROM task WHERE kind = 'deployment' AND operation_id = ?"
            " AND status = 'failed' ORDER BY id",
            name,
        )
        return [row["instance_id"] for row in rows]
