"""Makes the files of this folder: what vllm-gaudi's calibration steps 5 and 6 make of the measurements of several ranks.
usage: make_unify.py REFERENCE/inc CALIBRATION_SCRIPTS    (needs numpy)

tp2: INC's own measurement and scales of a two-layer model on two ranks. ep4: four ranks with two experts each, synthetic; every number is
a bf16 number.
"""
import json, os, random, shutil, subprocess, sys, tempfile

REFERENCE, SCRIPTS = sys.argv[1:]
HERE = os.path.dirname(os.path.abspath(__file__))
random.seed(5)


def number():
    return random.randint(128, 255) / 128 * 2.0 ** random.randint(-4, 5)


def experts_rank(rank):
    nodes, scales, layer = {}, {}, "model.layers.0."
    for name, weight in [("self_attn.qkv_proj", True), ("self_attn.attn.impl.k_cache", False), ("mlp.gate", True)]:
        nodes[layer + name] = {"inputs": [[[number()]]]} | ({"params": {"weight": [[number()]]}} if weight else {})
        scales[layer + name] = {"inputs": [number()], "outputs": [number()], "params": {"weight": number()} if weight else {}}
    moe = layer + "mlp.experts.moe_op"
    nodes[moe] = {"inputs": [[[number()]]], "outputs": [[[number()]] for _ in range(3)]}
    scales[moe] = {"inputs": [number() for _ in range(3)], "outputs": [number()], "params": {}}
    for part in ["w13_list", "w2_list"]:
        for expert in range(2):
            nodes[f"{moe}.{part}.{expert}"] = {"inputs": [[[0.0]]], "params": {"weight": [[number()]]}}
            scales[f"{moe}.{part}.{expert}"] = {"inputs": [number()], "outputs": [number()], "params": {"weight": number()}}
    return nodes, scales


def write(path, value):
    with open(path, "w") as file:
        json.dump(value, file, indent=4)


def script(name, *args):
    subprocess.run([sys.executable, os.path.join(SCRIPTS, name), *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def keep(folder, name):
    shutil.rmtree(os.path.join(HERE, name), ignore_errors=True)
    shutil.copytree(folder, os.path.join(HERE, name), ignore=shutil.ignore_patterns("*.npz", "cfg_*"))


with tempfile.TemporaryDirectory() as temporary:
    def at(name):
        os.makedirs(os.path.join(temporary, name), exist_ok=True)
        return os.path.join(temporary, name)

    for rank in range(4):
        nodes, scales = experts_rank(rank)
        stem = os.path.join(at("ep4"), "inc_output_hooks_maxabs_")
        envelope = {"GlobalRank": None, "LocalRank": rank}
        write(f"{stem}{rank}_4.json", envelope | {"Mode": "DynamicRange", "Nodes": nodes})
        write(f"{stem}MAXABS_ARBITRARY_{rank}_4.json", envelope | {"Mode": "Scale", "Nodes": scales})
        write(f"{stem}{rank}_4_mod_list.json", list(nodes))
    keep(os.path.join(REFERENCE, "files/hpu_gaudi2/tp2"), "tp2")
    keep(os.path.join(REFERENCE, "files/vllm_step5_gaudi2"), "tp2_to_1")
    keep(at("ep4"), "ep4")
    for ranks in [1, 2]:
        script("step-5-unify_measurements.py", "-r", str(ranks), "-m", at("ep4"), "-o", at(f"ep4_to_{ranks}"), "-u")
        keep(at(f"ep4_to_{ranks}"), f"ep4_to_{ranks}")
    script("step-6-expand-measurements.py", "-w", "4", "-m", at("ep4_to_1"), "-o", at("expanded"))
    keep(at("expanded"), "ep4_to_1_to_4")
