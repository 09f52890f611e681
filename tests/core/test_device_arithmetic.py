"""TensorFloat-32 is allowed in the steps and evaluations of training in mixed precision on a GPU, and nowhere else."""

import subprocess
import sys

import pytest
import torch
from headway.core.training.devices import fast_products

CUDA, CPU, MPS = torch.device("cuda"), torch.device("cpu"), torch.device("mps")


@pytest.fixture(autouse=True)
def restored():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_the_setting_is_restored(before: str):
    torch.set_float32_matmul_precision(before)
    with fast_products(CUDA, "bf16"):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize(("device", "precision"), [(CUDA, "fp32"), (CPU, "bf16"), (MPS, "fp16")])
def test_fp32_and_other_devices_keep_the_setting(device: torch.device, precision: str):
    with fast_products(device, precision):
        assert torch.get_float32_matmul_precision() == "highest"


def test_a_program_that_uses_the_newer_settings_keeps_them():
    code = """
import torch
from headway.core.training.devices import fast_products
torch.backends.cuda.matmul.fp32_precision = "tf32"
with fast_products(torch.device("cuda"), "bf16"):
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
assert torch.backends.cuda.matmul.fp32_precision == "tf32"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
