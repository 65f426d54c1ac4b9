"""The state of this machine's NVIDIA GPUs, read by NVML, which needs neither torch nor CUDA."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from contracts.bounds import MAX_NAME, cut
from contracts.leases import GpuState

READ_TIMEOUT = 5.0
"""Seconds; NVML does not return if the driver hangs."""
MAX_GPUS = 64
DEVICE_FILES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""One of these exists if an NVIDIA driver is loaded; without one NVML is not loaded at all."""

log = structlog.get_logger(__name__)


class GpuReader:
    """Reads the GPUs that CUDA_VISIBLE_DEVICES leaves to this worker; while a reading hangs, no second one starts."""

    def __init__(
        self,
        nvml: Any = None,  # noqa: ANN401  # the module pynvml has no types
        environment: Mapping[str, str] = os.environ,
        timeout: float = READ_TIMEOUT,
    ) -> None:
        self._nvml = nvml or _nvml()
        self._environment = environment
        self._timeout = timeout
        self._started = False
        self._reading: asyncio.Future[Any] | None = None
        self._logged: set[str] = set()
        self.lost: str | None = None
        """Names the GPUs that stopped working, as a predicate of the worker; None if there are none."""

    async def read(self) -> tuple[GpuState, ...]:
        """The GPUs now; none if there are none, or if NVML fails or does not return in time."""
        if self._nvml is None:
            return ()
        if self._reading is None or self._reading.done():
            self._reading = _in_daemon_thread(self._read)
        try:
            states, self.lost = await asyncio.wait_for(asyncio.shield(self._reading), self._timeout)
        except TimeoutError:
            self._log_once("gpus_do_not_answer", f"NVML did not return within {self._timeout:g} s")
            return ()
        except self._nvml.NVMLError as error:
            self._log_once("gpus_not_read", str(error))
            return ()
        return tuple(states)

    def _read(self) -> tuple[list[GpuState], str | None]:
        """Raises NVMLError, also if this machine has no driver."""
        if not self._started:
            self._nvml.nvmlInit()
            self._started = True
        lost, states = list[str](), list[GpuState]()
        for index in self._visible(self._nvml.nvmlDeviceGetCount())[:MAX_GPUS]:
            try:
                states.append(self._state(self._nvml.nvmlDeviceGetHandleByIndex(index)))
            except (self._nvml.NVMLError_GpuIsLost, self._nvml.NVMLError_ResetRequired) as error:
                lost.append(f"GPU {index} ({error})")
        return states, f"has lost {', '.join(lost)}; reset the GPU or restart the machine" if lost else None

    def _state(self, handle: Any) -> GpuState:  # noqa: ANN401  # as above
        nvml = self._nvml
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        name = nvml.nvmlDeviceGetName(handle)
        return GpuState(
            name=cut(name.decode() if isinstance(name, bytes) else name, MAX_NAME) or "GPU",
            utilization=self._optional(lambda: min(1.0, nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)),
            memory_used=memory.used,
            memory_total=memory.total,
            temperature=self._optional(lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
        )

    def _optional(self, read: Callable[[], float]) -> float | None:
        """A value that some GPUs, such as a part of a divided one, do not have."""
        try:
            return read()
        except self._nvml.NVMLError_NotSupported:
            return None

    def _visible(self, count: int) -> Sequence[int]:
        """The indices of the GPUs that CUDA_VISIBLE_DEVICES names; all of them if it names GPUs in another way."""
        named = self._environment.get("CUDA_VISIBLE_DEVICES")
        if named is None:
            return range(count)
        parts = [part.strip() for part in named.split(",") if part.strip()]
        if any(not part.lstrip("-").isdecimal() for part in parts):
            return range(count)
        return [int(part) for part in parts if 0 <= int(part) < count]

    def _log_once(self, event: str, error: str) -> None:
        if error not in self._logged:
            self._logged.add(error)
            log.warning(event, error=error)


def _nvml() -> Any:  # noqa: ANN401  # as above
    """The module pynvml; None if it is not installed, or if this machine has no NVIDIA driver."""
    if not any(path.exists() for path in DEVICE_FILES):
        return None
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml


def _in_daemon_thread(call: Callable[[], Any]) -> asyncio.Future[Any]:
    """Run a call in a thread that does not keep the process alive if it hangs."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Any] = loop.create_future()

    def settle(value: object, error: Exception | None) -> None:
        if not result.done():
            result.set_result(value) if error is None else result.set_exception(error)

    def work() -> None:
        value, error = None, None
        try:
            value = call()
        except Exception as raised:  # noqa: BLE001  # it is raised again where the result is awaited
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=work, name="gpus", daemon=True).start()
    return result
