"""Examines this host: probes gather facts, agent.core says what they mean. Nothing is changed by it."""

from agent.doctor.examination import examine

__all__ = ["examine"]
