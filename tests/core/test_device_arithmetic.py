"""TensorFloat-32 is allowed in the steps and evaluations of training in mixed precision on a GPU, and nowhere else."""

import subprocess
import sys

import pytest
import torch
from headway.core.training.devices import fast_products

# In separate processes: the settings are global, and refuse some orders.
SCRIPT = """
import torch
from headway.core.training.devices import fast_products
products = torch.backends.cuda.matmul
{settings}
before = products.fp32_precision
with fast_products(torch.device("cuda:0"), "bf16"):
    assert products.fp32_precision == "tf32"
try:
    with fast_products(torch.device("cuda"), "fp16"):
        raise KeyError
except KeyError:
    pass
assert products.fp32_precision == before
{after}
"""


@pytest.mark.parametrize(
    ("settings", "after"),
    [
        ("", 'assert torch.get_float32_matmul_precision() == "highest"'),
        ('torch.set_float32_matmul_precision("high")', 'assert torch.get_float32_matmul_precision() == "high"'),
        ('products.fp32_precision = "ieee"', ""),
        ('products.fp32_precision = "tf32"', ""),
    ],
    ids=["default", "older setting", "off", "on"],
)
def test_the_setting_of_the_program_is_restored(settings: str, after: str):
    script = SCRIPT.format(settings=settings, after=after)
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", script], check=True)


@pytest.mark.parametrize(("device", "precision"), [("cuda", "fp32"), ("cpu", "bf16"), ("mps", "fp16")])
def test_fp32_and_other_devices_keep_the_setting(device: str, precision: str):
    before = torch.backends.cuda.matmul.fp32_precision
    with fast_products(torch.device(device), precision):
        assert torch.backends.cuda.matmul.fp32_precision == before != "tf32"
