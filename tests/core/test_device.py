"""Devices by name, here and on machines that have others."""

import importlib.machinery
import os
import sys
import warnings

import pytest
import torch

from samptag.core import device
from samptag.core.device import (
    available_cores,
    available_devices,
    choose_device,
    gpu_possible,
    select_device,
    worth_a_gpu,
)
from samptag.errors import DeviceError


def test_auto_never_fails():
    assert select_device("auto").type in {"cpu", "cuda", "mps"}


def test_the_cpu_is_always_there():
    assert select_device("cpu") == torch.device("cpu")
    assert available_devices()[0] == "cpu"


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "", "cpu:1", "CPU", "cuda:-1", "cuda:x", "meta"])
def test_what_is_not_there_is_named_beside_what_is(name: str):
    with pytest.raises(DeviceError, match=f"no device {name!r}: this machine has {', '.join(available_devices())}"):
        select_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_that_is_not_there_is_an_error():
    with pytest.raises(DeviceError, match="no device 'cuda': this machine has cpu"):
        select_device("cuda")


def test_a_device_that_cannot_be_used_is_passed_over_by_auto_and_refused_by_name(monkeypatch, caplog):
    # Without a driver torch really refuses the first tensor on a device it was told to list.
    if torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    monkeypatch.setattr(device, "gpu_possible", lambda: False)  # as where the driver has other files
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    try:
        torch.ones(1, device="cuda:0")
    except AssertionError:
        pytest.skip("this torch was built without CUDA and cannot even try")
    except RuntimeError:
        pass
    assert select_device("auto").type in {"cpu", "mps"}
    assert "cuda:0 exists but cannot be used" in caplog.text
    with pytest.raises(DeviceError, match="'cuda' exists but cannot be used"):
        select_device("cuda")


def test_a_driver_that_is_too_old_is_one_line(monkeypatch, caplog):
    def is_available():
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old\n(found 1)", stacklevel=1)
        return False

    monkeypatch.setattr(device, "gpu_possible", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    assert "cuda:0" not in available_devices()
    assert caplog.messages == ["CUDA initialization: The NVIDIA driver on your system is too old (found 1)"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_by_name_and_by_number():
    assert select_device("cuda") == select_device("cuda:0") == torch.device("cuda:0")
    assert select_device("auto").type == "cuda"


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "", "CPU"])
def test_tagging_refuses_the_same_names(name: str):
    with pytest.raises(DeviceError, match=f"no device {name!r}: this machine has cpu"):
        choose_device(name)


@pytest.mark.parametrize("cores", [1, 8])
def test_a_gpu_is_worth_starting_for_long_work_only(monkeypatch, cores: int):
    monkeypatch.setattr(device, "available_cores", lambda: cores)
    assert not worth_a_gpu(200.0 * cores)
    assert worth_a_gpu(400.0 * cores)
    assert worth_a_gpu(None)


def test_auto_asks_torch_only_where_a_gpu_is_possible_and_worth_it(monkeypatch):
    asked = []
    monkeypatch.setattr(device, "select_device", lambda name: asked.append(name) or torch.device("cuda:0"))
    monkeypatch.setattr(device, "gpu_possible", lambda: False)
    assert choose_device("auto") == "cpu"
    monkeypatch.setattr(device, "gpu_possible", lambda: True)
    assert choose_device("auto", seconds=30.0) == "cpu"
    assert choose_device("cpu") == "cpu"
    assert not asked
    assert choose_device("auto") == "cuda:0"
    assert choose_device("cuda", seconds=30.0) == "cuda:0"
    assert asked == ["auto", "cuda"]


@pytest.mark.skipif(sys.platform != "linux", reason="drivers are files on Linux only")
@pytest.mark.parametrize(
    ("driver", "build", "visible", "possible"),
    [
        (True, "cuda: Optional[str] = '13.0'\nhip: Optional[str] = None", None, True),
        (True, "cuda: Optional[str] = None\nhip: Optional[str] = '7.0'", None, True),
        (True, "cuda: Optional[str] = None\nhip: Optional[str] = None", None, False),
        (True, "cuda = '12.4'", "", False),
        (True, "cuda = '12.4'", "-1", False),
        (True, "cuda = '12.4'", "1", True),
        (True, "words that a later torch may write", None, True),
        (False, "cuda = '12.4'", None, False),
    ],
)
def test_a_gpu_needs_a_driver_and_a_torch_that_knows_it(
    tmp_path, monkeypatch, driver: bool, build: str, visible: str | None, possible: bool
):
    files = tmp_path / "version", tmp_path / "torch" / "version.py"
    files[1].parent.mkdir()
    files[1].write_text(build)
    if driver:
        files[0].touch()
    monkeypatch.setattr(device, "_DRIVER_FILES", (str(files[0]),))
    found = importlib.machinery.ModuleSpec("torch", None, origin=str(files[1].parent / "__init__.py"))
    monkeypatch.setattr(device, "find_spec", lambda name: found)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_possible() is possible


def test_without_torch_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    monkeypatch.setattr(device, "_DRIVER_FILES", (__file__,))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not gpu_possible()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux alone binds processes to cores")
@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "5000 100000"}, 1),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu.max": "6400000 100000"}, 8),
        ({}, 8),
    ],
)
def test_a_containers_share_of_time_limits_its_cores(tmp_path, monkeypatch, files: dict[str, str], cores: int):
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content + "\n")
    monkeypatch.setattr(device, "_CONTROL_GROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    assert available_cores() == cores
