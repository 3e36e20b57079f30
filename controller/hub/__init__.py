"""The agents' side of the controller: one WebSocket for each agent, opened by the agent."""

from .hub import Hub, HubSettings

__all__ = ["Hub", "HubSettings"]
