"""Reading GPUs by NVML, with a replacement for its module."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from contracts.leases import GpuState
from infra.worker import gpus
from infra.worker.gpus import GpuReader


class NVMLError(Exception):
    pass


class NotSupported(NVMLError):
    pass


class GpuIsLost(NVMLError):
    pass


class FakeNvml:
    """The functions of `pynvml` that are used, for `count` GPUs."""

    NVML_TEMPERATURE_GPU = 0
    NVMLError = NVMLError
    NVMLError_NotSupported = NotSupported
    NVMLError_GpuIsLost = GpuIsLost
    NVMLError_ResetRequired = type("ResetRequired", (NVMLError,), {})

    def __init__(self, count: int = 2) -> None:
        self.count = count
        self.inits = 0
        self.lost: set[int] = set()
        self.init_error: NVMLError | None = None
        self.returns = threading.Event()
        self.returns.set()

    def nvmlInit(self) -> None:  # noqa: N802  # NVML's name
        self.inits += 1
        self.returns.wait()
        if self.init_error is not None:
            raise self.init_error

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index in self.lost:
            raise GpuIsLost("GPU is lost")
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return f"GPU number {handle}"

    def nvmlDeviceGetMemoryInfo(self, _: int) -> Any:  # noqa: N802
        return SimpleNamespace(used=2**30, total=80 * 2**30)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        if handle == 1:
            raise NotSupported("Not Supported")
        return SimpleNamespace(gpu=37)

    def nvmlDeviceGetTemperature(self, _: int, sensor: int) -> int:  # noqa: N802
        return 61 + sensor


async def test_each_gpu_is_read() -> None:
    reader = GpuReader(FakeNvml(), {})
    first, second = await reader.read()
    expected = {"memory_used": 2**30, "memory_total": 80 * 2**30, "temperature": 61.0}
    assert first == GpuState(name="GPU number 0", utilization=0.37, **expected)
    assert second == GpuState(name="GPU number 1", utilization=None, **expected)
    assert reader.lost is None


async def test_nvml_is_started_once() -> None:
    nvml = FakeNvml()
    reader = GpuReader(nvml, {})
    await reader.read()
    await reader.read()
    assert nvml.inits == 1


@pytest.mark.parametrize(
    ("visible", "names"),
    [("1", ["GPU number 1"]), ("", []), ("-1", []), ("1,0", ["GPU number 1", "GPU number 0"]), ("7", [])],
)
async def test_only_the_gpus_that_cuda_may_use_are_read(visible: str, names: list[str]) -> None:
    reader = GpuReader(FakeNvml(), {"CUDA_VISIBLE_DEVICES": visible})
    assert [gpu.name for gpu in await reader.read()] == names


async def test_gpus_that_are_named_by_uuid_are_not_told_apart() -> None:
    assert len(await GpuReader(FakeNvml(), {"CUDA_VISIBLE_DEVICES": "GPU-8f2c"}).read()) == 2


async def test_a_lost_gpu_is_named_and_the_others_are_read() -> None:
    nvml = FakeNvml()
    nvml.lost = {1}
    reader = GpuReader(nvml, {})
    assert len(await reader.read()) == 1
    assert reader.lost == "has lost GPU 1 (GPU is lost); reset the GPU or restart the machine"


async def test_a_machine_whose_nvml_fails_has_no_gpus_and_says_so_once() -> None:
    nvml = FakeNvml()
    nvml.init_error = NVMLError("Driver/library version mismatch")
    reader = GpuReader(nvml, {})
    with capture_logs() as logs:
        assert [await reader.read(), await reader.read()] == [(), ()]
    assert [(line["event"], line["error"]) for line in logs] == [("gpus_not_read", "Driver/library version mismatch")]


async def test_a_reading_that_hangs_is_left_alone_until_it_returns() -> None:
    nvml = FakeNvml()
    nvml.returns.clear()
    reader = GpuReader(nvml, {}, timeout=0.01)
    assert [await reader.read(), await reader.read()] == [(), ()]
    assert nvml.inits == 1
    nvml.returns.set()
    reader._timeout = 5
    assert len(await reader.read()) == 2


async def test_a_machine_without_a_driver_does_not_load_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "DEVICE_FILES", ())
    assert await GpuReader().read() == ()
