"""A process of INC: run_inc.py TARGET MODEL CONFIG... measures or converts the model as each QUANT_CONFIG says, and leaves INC's files.

TARGET: cpu is INC as it is, on a host; gaudi2 and gaudi3 are INC on the stand-in of gaudi.py. A configuration of mode MEASURE measures in
float32 over MODEL/text.txt, whose tokens are bytes; one of mode QUANTIZE converts the model in bf16, as vLLM loads it, and
stores its FP8 weights beside the scales, as WEIGHTS_<scale_method>.safetensors, (in_features, out_features) as INC keeps them.
"""
import json
import os
import sys
from pathlib import Path

import torch

target, model, *configs = sys.argv[1:]
model = Path(model)
if target == "cpu":
    os.environ["INC_TARGET_DEVICE"] = "cpu"
else:
    import gaudi
    gaudi.install(target)
# Files are named by rank, as under vLLM, where torch.distributed runs.
torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)

from neural_compressor.torch.quantization import FP8Config, convert, finalize_calibration, prepare  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from vllm_llama import LlamaForCausalLM  # noqa: E402

for path in configs:
    config = json.loads(Path(path).read_text())
    measures = config["mode"] == "MEASURE"
    llama = LlamaForCausalLM(model, torch.float32 if measures else torch.bfloat16, plain=target == "cpu").eval()
    if measures:
        llama = prepare(llama, FP8Config.from_json_file(path))
        llama(torch.tensor(list((model / "text.txt").read_bytes())))
        finalize_calibration(llama)
    else:
        llama = convert(llama, FP8Config.from_json_file(path))
        weights = {name: weight.view(torch.uint8).contiguous() for name, weight in llama.state_dict().items()
                   if weight.dtype == torch.float8_e4m3fn}
        save_file(weights, Path(config["dump_stats_path"]).parent / f"WEIGHTS_{config['scale_method'].upper()}.safetensors")
