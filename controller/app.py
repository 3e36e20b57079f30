"""The controller, put together: what is started, in which order, and how it stops."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Final

from aiohttp import web

from controller.api import ApiDeps, Leases, RateLimits, Uses, make_api, serve_api
from controller.bulletin import Bulletin
from controller.certificate import FollowedCertificate
from controller.checkpoint import Checkpoint, pass_by
from controller.claimants import Claimants
from controller.config import ControllerConfig, find_risks, hub_names, read_api_tokens
from controller.departure import Departures
from controller.dispatcher import Dispatcher
from controller.enrolment import Enrolment
from controller.health import Health
from controller.hub import Hub, HubSettings
from controller.hub.doors import Doors
from controller.hub.hub import HEARTBEAT_S
from controller.hub.link import LinkDeps
from controller.hub.registry import Registry
from controller.install import Installer, PackageFolder
from controller.invitation import hub_url, make_invitations
from controller.keyring import open_keyring
from controller.live import Live
from controller.notice import Notices
from controller.pki import HubCertificate, open_authorities
from controller.pruner import Pruner, Retention
from controller.recorder import Recorder
from controller.revocation import Revocations
from controller.shared_clock import SharedClock
from controller.store import Store, open_store
from controller.sweeper import Sweeper
from shared.clock import Clock, SystemClock
from shared.logs import get_log
from shared.supervisor import Supervisor
from shared.tasks import TaskGroup

VERSION: Final = version("releasehand-daemons")

log = get_log(__name__)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running controller listens; ports are the real ones, also where 0 was asked for."""

    api: str
    hub: str


@asynccontextmanager
async def run_controller(
    config: ControllerConfig, clock: Clock, *, checkpoint: Checkpoint = pass_by
) -> AsyncIterator[Addresses]:
    """Run a controller until the block ends, then stop it gracefully: calls that run are answered, what is
    recorded stays, agents keep what is not and tell the next controller.

    Raises StoreUnavailableError, AuthorityError, OSError (a port is taken), ConfigError."""
    clock = shared = SharedClock(clock)
    authorities = await asyncio.to_thread(open_authorities, config.pki.directory, SystemClock().now())
    # TLS goes by this machine's clock, whatever the rest goes by.
    hub_certificate = HubCertificate(
        authorities.shown, config.pki.directory, hub_names(config.hub), SystemClock()
    )
    keyring = await asyncio.to_thread(open_keyring, config)
    store = await open_store(config.database, clock, keyring, checkpoint=checkpoint)
    try:
        if missing := await store.reseal():
            log.warning("secrets cannot be read: their keys are in no key file", keys=",".join(missing))
        has_time = await shared.follow(store)
        registry, live, bulletin = Registry(), Live(), Bulletin()
        notices = Notices(bulletin)
        dispatcher = Dispatcher(store, registry, notices, clock, keyring, checkpoint=checkpoint)
        notices.wake_by(dispatcher.wake)
        notices.stop_by(dispatcher.stop)
        recorder = Recorder(store, notices, clock, checkpoint=checkpoint)
        recorder.acknowledge_by(registry.acknowledge)
        sweeper, claimants = Sweeper(store, live, notices, clock), Claimants(store, registry, clock)
        retention = _retention(config)
        pruner = Pruner(store, retention, clock)
        health, revocations = Health(store, clock, VERSION), Revocations(store, registry, clock)
        enrolment = Enrolment(
            store, authorities.signing, timedelta(seconds=config.pki.agent_certificate_s), clock
        )
        hub = Hub(
            HubSettings(
                config.hub.host,
                config.hub.port,
                await asyncio.to_thread(hub_certificate.open),
                config.hub.max_connections,
            ),
            store=store,
            registry=registry,
            dispatcher=dispatcher,
            notices=notices,
            deps=LinkDeps(
                store,
                enrolment,
                recorder.submit,
                live,
                clock,
                HEARTBEAT_S,
                config.hub.send_timeout_s,
                recorder.dropped,
            ),
            doors=Doors(enrolment, Departures(store, notices.tell, revocations.look), clock),
            clock=clock,
        )
        leases, uses = Leases(store, clock), Uses(store, clock)
        tokens = read_api_tokens(config)
        await _warn_of_no_callers(tokens, store)
        api = make_api(
            ApiDeps(
                store=store,
                wake=dispatcher.wake,
                tell=notices.tell,
                renew=registry.renew,
                close_revoked=revocations.look,
                invitations=make_invitations(config, store, authorities.shown),
                installer=Installer(
                    config.install.url, hub_url(config), PackageFolder(config.install.folder)
                ),
                bulletin=bulletin,
                health=health.check,
                tokens=tokens,
                leases=leases,
                uses=uses,
                clock=clock,
                version=VERSION,
                history_kept=retention.history,
                dropped=recorder.dropped,
                rates=RateLimits(config.api.calls_per_second, config.api.call_burst),
                failure_rates=RateLimits(config.api.failures_per_second, config.api.failure_burst),
            )
        )
        certificate = _follow_certificate(config, clock)
        engine = (recorder, dispatcher, sweeper, pruner, claimants, health)
        async with TaskGroup() as group:
            work = [
                group.create_task(part.run())
                for part in (*engine, leases, uses, hub_certificate, revocations)
            ]
            if certificate is not None:
                work.append(group.create_task(certificate.run()))
            if has_time:
                work.append(group.create_task(shared.run(store)))
            try:
                async with (
                    _serve_api(api, config, certificate) as api_address,
                    hub.listen() as hub_address,
                ):
                    yield Addresses(api_address, hub_address)
            finally:
                for task in work:
                    task.cancel()
                await sweeper.finish()
                await uses.finish()
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1 and isinstance(group.exceptions[0], OSError):
            raise group.exceptions[0] from None  # a taken port is no bug, and is told in one line
        raise
    finally:
        await store.close()


async def _warn_of_no_callers(tokens: Mapping[str, str], store: Store) -> None:
    if not tokens and not await store.has_tokens():
        log.warning("nobody can call the API", remedy="releasehand-controller token create")


def _follow_certificate(config: ControllerConfig, clock: Clock) -> FollowedCertificate | None:
    """Raises OSError when it cannot be used."""
    cert_file, key_file = config.api.cert_file, config.api.key_file
    return FollowedCertificate(cert_file, key_file, clock) if cert_file and key_file else None


def _serve_api(
    api: web.Application, config: ControllerConfig, certificate: FollowedCertificate | None
) -> AbstractAsyncContextManager[str]:
    section, tls = config.api, certificate.context if certificate else None
    return serve_api(api, section.host, section.port, max_connections=section.max_connections, tls=tls)


def _retention(config: ControllerConfig) -> Retention:
    def days(number: int) -> timedelta | None:
        return timedelta(days=number) if number else None

    return Retention(days(config.retention.events_keep_days), days(config.retention.history_keep_days))


def until_told(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    return told


async def serve_until_told(config: ControllerConfig, *, checkpoint: Checkpoint = pass_by) -> None:
    """Run until SIGTERM or SIGINT."""
    told = until_told(asyncio.get_running_loop())
    for risk in find_risks(config):
        log.warning("configuration is risky", reason=risk)
    clock, supervisor = SystemClock(), Supervisor.from_environment(os.environ)
    async with (
        supervisor.watch(clock),
        run_controller(config, clock, checkpoint=checkpoint) as addresses,
    ):
        log.info("controller started", api=addresses.api, hub=addresses.hub, version=VERSION)
        supervisor.show(f"API on {addresses.api}, agents on {addresses.hub}")
        supervisor.ready()
        await told.wait()
        supervisor.stopping()
        log.info("controller stopping")
    log.info("controller stopped")
