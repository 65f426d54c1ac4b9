"""The peers, each configured for durable work as in its manual, and otherwise for speed."""

from __future__ import annotations

from benchmarks.control.contestant import Contestant
from benchmarks.control.peers.celery_chain import CeleryChain
from benchmarks.control.peers.dbos_in_process import DbosInProcess
from benchmarks.control.peers.dbos_queued import DbosQueued
from benchmarks.control.peers.dramatiq_pipeline import DramatiqPipeline
from benchmarks.control.peers.pgqueuer_jobs import PgQueuerJobs
from benchmarks.control.peers.procrastinate_jobs import ProcrastinateJobs

PEERS: dict[str, type[Contestant]] = {
    peer.name: peer
    for peer in (CeleryChain, DramatiqPipeline, DbosInProcess, DbosQueued, ProcrastinateJobs, PgQueuerJobs)
}
