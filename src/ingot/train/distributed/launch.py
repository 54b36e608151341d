"""Start a verb on the machines of a Ray cluster: one actor a process, which then works as under torchrun.

Ray is only asked for places to run. Files are written by the first process, so `--out` and the data must lie where
every machine sees them.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
from typing import Any

from ingot.core.errors import IngotError, fail
from ingot.core.progress import say
from ingot.train.distributed.world import Told, tell


def parse_launch(text: str) -> int | None:
    """Processes that `--launch` asks of Ray: "ray" gives 0 (one for each GPU, else each machine), "ray:4" 4, "here"
    None. Raises `bad-launch`."""
    if text == "here":
        return None
    name, colon, number = text.partition(":")
    if name != "ray" or (colon and not (number.isdigit() and int(number) > 0)):
        raise fail("bad-launch", found=text)
    return int(number) if colon else 0


def on_ray(verb: str, options: dict[str, Any], wanted: int) -> None:
    """Run a verb with these options on `wanted` processes of the cluster (0: as many as it offers).

    Raises `ray-missing`, `ray-too-few`, and whatever the verb itself refuses.
    """
    ray = _ray()
    ray.init(
        address=os.environ.get("RAY_ADDRESS"), log_to_driver=True, logging_level=logging.ERROR, include_dashboard=False
    )
    try:
        offered = ray.cluster_resources()
        gpus, cpus = int(offered.get("GPU", 0)), int(offered.get("CPU", 1))
        size = wanted or gpus or len(ray.nodes())
        if size > (gpus or cpus):
            raise fail("ray-too-few", wanted=size, offered=gpus or cpus)
        say("ray-begins", size=size, nodes=len(ray.nodes()))
        worker = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0)(Process)
        processes = [worker.remote() for _ in range(size)]
        address = ray.get(processes[0].address.remote())
        nodes = ray.get([each.node.remote() for each in processes])
        runs = [each.run.remote(rank, size, node, address, verb, options)
                for rank, (each, node) in enumerate(zip(processes, nodes, strict=True))]  # fmt: skip
        for refused in ray.get(runs):
            if refused:
                raise fail(refused[0], **refused[1])
    finally:
        ray.shutdown()


def _ray() -> Any:
    """Ray, which comes with an extra. Raises `ray-missing`."""
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise fail("ray-missing") from None


class Process:
    """One process of the run, on whatever machine Ray put it."""

    def address(self) -> tuple[str, int]:
        """A host and free port for the processes to meet at."""
        host = _ray().util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            return host, int(probe.getsockname()[1])

    def node(self) -> str:
        """The machine it is on."""
        return str(_ray().get_runtime_context().get_node_id())

    def run(
        self, rank: int, size: int, node: str, address: tuple[str, int], verb: str, options: dict[str, Any]
    ) -> Told:
        """Run the verb as process `rank`; returns the code and details of what it refused, None when it is done."""
        from ingot.core.verbs import find_verb

        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": "0", "GROUP_RANK": node,
                       "MASTER_ADDR": address[0], "MASTER_PORT": str(address[1])}  # fmt: skip
        try:
            find_verb(verb)(**options)
        except IngotError as error:
            return tell(error)
        return None
