"""Hooks as children of the agent, with its rights and in its sandbox: where there is no systemd to run them,
or the agent may not ask it to."""

from collections.abc import Mapping, Sequence

from agent.tool import Output, run_tool


class HookChild:
    """The hooks of one instance. A HookPlace (agent.hooks)."""

    async def run(
        self, command: Sequence[str], *, environment: Mapping[str, str], timeout_s: float, output: Output
    ) -> int:
        """See HookPlace. What is left in its process group when it ends is killed."""
        return (await run_tool(command, environment=environment, output=output)).code

    async def clear(self) -> None:
        """See HookPlace."""
