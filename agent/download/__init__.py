"""Fetch a package over HTTPS into a file, hashing while it comes."""

from agent.download.downloader import Downloader
from agent.download.package import Download
from agent.download.policy import DownloadPolicy

__all__ = ["Download", "DownloadPolicy", "Downloader"]
