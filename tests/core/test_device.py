"""Devices by name, here and on machines that have others."""

import pytest
import torch

from samptag.core.device import available_devices, inference_dtype, select_device
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
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    try:
        torch.ones(1, device="cuda:0")
    except AssertionError:
        pytest.skip("this torch was built without CUDA and cannot even try")
    except RuntimeError:
        pass
    assert select_device("auto").type in {"cpu", "mps"}
    assert "cuda:0 is there but cannot be used" in caplog.text
    with pytest.raises(DeviceError, match="'cuda' is there but cannot be used"):
        select_device("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_by_name_and_by_number():
    assert select_device("cuda") == select_device("cuda:0") == torch.device("cuda:0")
    assert select_device("auto").type == "cuda"


@pytest.mark.parametrize(("name", "dtype"), [("cpu", torch.float32), ("mps", torch.float32), ("cuda:1", torch.float16)])
def test_precision_per_device(name: str, dtype: torch.dtype):
    assert inference_dtype(torch.device(name)) == dtype
