import platform
import subprocess
import sys

import pytest
import torch

from roiae.config import RunConfig, build_config
from roiae.errors import ConfigError
from roiae.method.hardware import find_device, is_available, resolve


def test_auto_is_replaced_by_what_this_machine_has() -> None:
    train = resolve(RunConfig()).train

    assert is_available(train.device)
    assert train.threads == torch.get_num_threads()
    assert train.precision in ("float32", "bfloat16")


def test_a_cpu_that_would_emulate_bfloat16_stays_with_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)

    assert resolve(build_config({"train": {"device": "cpu"}})).train.precision == "float32"


def test_what_is_set_is_left_as_it_is() -> None:
    settings = {"train": {"device": "cpu", "precision": "float32", "threads": 7}}

    assert resolve(build_config(settings)) == build_config(settings)


def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    assert find_device("auto") == torch.device("cuda")
    assert find_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(ConfigError, match=r"cuda: this machine has none.*auto"):
        find_device("cuda")


# Runs in a process of its own: what an allocator keeps depends on all that went before.
PAGE_FAULTS = """
import resource, torch
from roiae.method.hardware import prepare_process
from roiae.method.ms_ssim import ms_ssim
prepare_process(1)
recon, frame = torch.rand(16, 1, 256, 256, requires_grad=True), torch.rand(16, 1, 256, 256)
for _ in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.autograd.grad(ms_ssim(recon, frame).sum(), recon)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone is told to keep memory")
def test_a_prepared_process_keeps_the_memory_of_a_step_for_the_next() -> None:
    """Else the system clears it anew, page by page. Compared with the first step, which has nothing to take from: what
    a process that nobody prepared gives back is chance, now half of a step's memory, now none."""
    ended = subprocess.run([sys.executable, "-c", PAGE_FAULTS], check=True, capture_output=True)
    first, *later = (int(faults) for faults in ended.stdout.split())
    if first == 0:
        pytest.skip("this system does not count page faults")

    assert min(later) < first / 100
