"""A stand-in for Habana's software, so that INC takes its Gaudi branches where there is none: all its module classes and scale methods.

INC is not changed. Whatever it asks of a device "hpu" happens on the CPU: a torch function mode replaces the device in every call. Of the
kernels only the casts exist, since files need no others; they are what the cards' documentation says, saturation and one rounding.
"""
import sys
import types
from importlib.machinery import ModuleSpec

import torch
from torch.overrides import TorchFunctionMode

FULL_SCALE = {"gaudi2": 240.0, "gaudi3": 448.0}


def on_cpu(argument):
    if isinstance(argument, str) and argument.startswith("hpu"):
        return "cpu"
    return torch.device("cpu") if isinstance(argument, torch.device) and argument.type == "hpu" else argument


class OnCpu(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):  # noqa: A002: torch names it
        return func(*map(on_cpu, args), **{key: on_cpu(value) for key, value in (kwargs or {}).items()})


def module(name, **content):
    """A module that import finds, and its parent's attribute."""
    new = types.ModuleType(name)
    new.__spec__ = ModuleSpec(name, None, is_package=True)
    new.__path__ = []
    new.__dict__.update(content)
    sys.modules[name] = new
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, new)


class Kernel:
    """Has the overloads that INC asks for; the function is missing where files do not need it."""

    def __init__(self, function=None):
        self.function = self.default = self.scalar = self.Scalar_scales = function

    def __call__(self, *args, **kwargs):
        return self.function(*args, **kwargs)


class Kernels:
    def __init__(self, full_scale):
        def cast_to_fp8(x, inv_scale=None, stochastic=False, is_amax=False, dtype=torch.float8_e4m3fn):
            largest = full_scale if dtype == torch.float8_e4m3fn else 57344.0
            scaled = x.float() * (1 if inv_scale is None else torch.as_tensor(inv_scale).float())
            return scaled.clamp(-largest, largest).to(dtype), None

        def cast_from_fp8(x, scale, dtype):
            return (x.float() * torch.as_tensor(scale).float()).to(dtype)

        self.cast_to_fp8_v2, self.cast_from_fp8 = Kernel(cast_to_fp8), Kernel(cast_from_fp8)

    def __getattr__(self, name):
        return Kernel()


def install(card):
    """card: gaudi2 or gaudi3. Before neural_compressor is imported."""
    assert "neural_compressor" not in sys.modules
    nothing = lambda *args, **kwargs: None  # noqa: E731
    cards = types.SimpleNamespace(synDeviceGaudi2=2, synDeviceGaudi3=3)
    module("habana_frameworks")
    module("habana_frameworks.torch")
    module("habana_frameworks.torch.core", mark_step=nothing)
    module("habana_frameworks.torch.hpex")
    module("habana_frameworks.torch.hpex.kernels", fp8_fused_sdpa=Kernel())
    module("habana_frameworks.torch.utils")
    module("habana_frameworks.torch.utils.experimental", synDeviceType=cards, _get_device_type=lambda: int(card[-1]),
           _set_is_dynamic_quantization=nothing, _set_scale_attributes=nothing)
    module("vllm")
    module("vllm.distributed", tensor_model_parallel_all_gather=lambda x: x, tensor_model_parallel_all_reduce=lambda x: x)
    torch.hpu = types.SimpleNamespace(is_available=lambda: True, current_device=lambda: 0, synchronize=nothing)
    torch.ops.hpu = Kernels(FULL_SCALE[card])
    OnCpu().__enter__()
