"""Makes the files of this folder from the larger reference folder (README.md).  usage: make_compact.py REFERENCE/inc"""
import json, math, os, re, shutil, struct, sys

REF = sys.argv[1]
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(REF, "gen"))
import compare_incmd as rule  # an independent implementation of the scale arithmetic

RULES = {"MAXABS_HW": "hw", "MAXABS_POW2": "pow2", "MAXABS_ARBITRARY": "id", "UNIT_SCALE": "unit", "HW_ALIGNED_SINGLE_SCALE": "fixed"}
PCS = ["ACT_MAXABS_HW_WEIGHTS_PCS_MAXABS_POW2", "ACT_MAXABS_POW2_WEIGHTS_PCS_MAXABS_POW2"]
WEIGHT_RULES = dict(RULES, ACT_MAXABS_PCS_POW2_WEIGHT_MAXABS_PTS_POW2_HW="hw")  # per tensor
WEIGHT_PCS = PCS + ["MAXABS_PCS_POW2"]


def load(path):
    return json.load(open(os.path.join(REF, path)))


def dump(name, value):
    json.dump(value, open(os.path.join(HERE, name), "w"), indent=0)


def hex4(bits):
    return "".join("7fc0" if b == "nan" else b[2:] for b in bits)


def base_of(method):  # the plain method whose activation rule it shares
    if method in RULES:
        return method
    return "MAXABS_HW" if "_HW_" in method else "MAXABS_POW2"


def activations():
    a = load("scales/act_scales.json")
    scales, host = {}, {}
    for device, methods in a["act"].items():
        scales[device], host[device] = {}, {}
        for method, value in methods.items():
            base = base_of(method)
            assert [b for b in value["bits"]] == methods[base]["bits"], method
            hpu = a["hpu_rule"][device].get(base)
            scales[device][method] = hex4((hpu or value)["bits"])
            host[device][method] = hex4(value["bits"])
    dump("act_scales.json", {"amax": "".join(v["f32"][2:] for v in a["values"]), "scales": scales, "host": host})


def weight_amax(w, row=None):
    rows, cols = w["shape"]
    words = [int(w["bf16"][4 * i:4 * i + 4], 16) << 16 for i in range(rows * cols)]
    values = [abs(rule.f32(x)) for x in words]
    return max(values if row is None else values[row * cols:(row + 1) * cols])


def weights():
    """Scales of the plain methods by the rule of the cards; of the search methods as INC has them; bytes as INC's quantizer has them,
    with the scale that it used."""
    matrices = load("scales/weights_bf16.json")["weights"]
    inc = load("scales/weight_scales.json")["scales"]
    bytes_ = load("scales/weight_quant.json")["bytes"]
    out = {"weights": matrices, "scales": {}, "host": {}, "bytes": {}}
    differing = 0
    for device in inc:
        out["scales"][device], out["host"][device], out["bytes"][device] = {}, {}, {}
        for method in inc[device]:
            found, host = {}, {}
            for name, w in matrices.items():
                entry = inc[device][method][name]
                if method in WEIGHT_RULES:
                    s = [rule.rnd(WEIGHT_RULES[method], rule.hpu_div(weight_amax(w), device, .5), device)]
                elif method in WEIGHT_PCS:
                    s = [rule.pow2(max(rule.hpu_div(weight_amax(w, i), device, .5), 2.0 ** -126)) for i in range(w["shape"][0])]
                else:
                    s = None
                if s:
                    bits = [rule.hx(x) for x in s]
                    differing += sum(x != y for x, y in zip(bits, entry["bits"]))
                    found[name] = hex4(bits)
                    host[name] = hex4(entry["bits"])
                elif "bits" in entry:
                    found[name] = [float(x) for x in entry["dec"]]
            out["scales"][device][method] = found
            out["host"][device][method] = host
            out["bytes"][device][method] = {
                name: {"inv": hex4(inc[device][method][name]["inv_bits"]), "bytes": b["hpu_emulated"] if isinstance(b, dict) else b}
                for name, b in bytes_[device][method].items() if method in RULES or method in PCS}
    print("weight scales where the cards' rule differs from division:", differing)
    dump("weights.json", out)


def copy(source, target=None):
    target = os.path.join(HERE, target or source)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copyfile(os.path.join(REF, source), target)
    os.chmod(target, 0o644)


def files():
    for name in ("big_1000nodes", "big_1205nodes", "odd_names", "tp1__inc_output_hooks_maxabs_0_1", "tp1_interval1__inc_output_hooks_maxabs_0_1",
                 "tp1__inc_output_hooks_maxabs_ACT_MAXABS_POW2_WEIGHTS_PCS_MAXABS_POW2_0_1", "tp1__inc_output_hooks_maxabs_MAXABS_HW_0_1",
                 "tp1__inc_output_hooks_maxabs_MAXABS_HW_OPT_WEIGHT_0_1", "exclude_none__inc_output_hooks_maxabs",
                 "vllm_step3_gaudi2__inc_output_hooks_maxabs_0_1", "vllm_step5_gaudi2__inc_output_hooks_maxabs_0_1"):
        copy("pickle/numpy1/%s.npz" % name, "numpy1/%s.npz" % name)
        if not name.startswith("big_1205"):
            copy("pickle/numpy2/%s.npz" % name, "numpy2/%s.npz" % name)
    copy("npz_subset/tiny/numpy2__tp1__inc_output_hooks_maxabs_0_1.npz", "tiny.npz")
    for folder, names in (("hpu_gaudi3/tp1", ("", "_MAXABS_HW", "_MAXABS_ARBITRARY", "_ACT_MAXABS_POW2_WEIGHTS_PCS_MAXABS_POW2")),
                          ("hpu_gaudi2/nan", ("",)), ("hpu_gaudi2/tp1_exclude_none", ("",)), ("vllm_step3_gaudi3", ("", "_MAXABS_HW"))):
        for name in names:
            for ending in ("json", "npz"):
                path = "files/%s/inc_output_hooks_maxabs%s_0_1.%s" % (folder, name, ending)
                copy(path, path[6:])
    copy("files/hpu_gaudi3/tp1/inc_output_hooks_maxabs_0_1_mod_list.json", "hpu_gaudi3/tp1/inc_output_hooks_maxabs_0_1_mod_list.json")
    copy("files/hpu_gaudi2/tp1_interval1/inc_output_hooks_maxabs_0_1.json", "hpu_gaudi2/tp1_interval1/inc_output_hooks_maxabs_0_1.json")
    copy("files/hpu_gaudi2/tp1_interval1/inc_output_hooks_maxabs_0_1.npz", "hpu_gaudi2/tp1_interval1/inc_output_hooks_maxabs_0_1.npz")


def smollm2():
    """A measurement of a whole model and the scale files that INC made of it."""
    for name in ("inc_output_hooks_maxabs_0_1.json", "inc_output_hooks_maxabs_0_1.npz", "inc_output_hooks_maxabs_0_1_mod_list.json"):
        copy("llama_oracle/measure/" + name, "smollm2/" + name)
    for device in ("gaudi2", "gaudi3"):
        for method in ("MAXABS_HW", "MAXABS_POW2"):
            name = "inc_output_hooks_maxabs_%s_0_1.json" % method
            copy("llama_oracle/scales/%s/%s" % (device, name), "smollm2/%s/%s" % (device, name))
    copy("llama_oracle/scales/gaudi3/inc_output_hooks_maxabs_MAXABS_HW_0_1.npz", "smollm2/gaudi3/inc_output_hooks_maxabs_MAXABS_HW_0_1.npz")
    text = open(os.path.join(REF, "llama_oracle/scales_hpu_rule.json")).read()
    text = re.sub(r'"note": .*\n', "", text)  # its quotes are not escaped
    dump("smollm2/scales_hpu_rule.json", json.loads(text)["differences"])


def allowblock():
    a = load("validation/allowblock.json")
    dump("allowblock.json", {"modules": a["modules"], "cases": a["cases"]})


def dynamic():
    """Scales of activations per token, as INC computes them at run time on a host."""
    d = load("scales/dynamic_act_scales.json")
    methods = ("ACT_MAXABS_PCS_POW2_WEIGHT_MAXABS_PTS_POW2_HW", "MAXABS_PCS_POW2")
    dump("dynamic_scales.json", {"input": d["input"], **{dev: {m: {k: v["bits"] for k, v in d[dev][m].items()} for m in methods}
                                                          for dev in ("GAUDI2", "GAUDI3")}})


def extra():
    """Scales for E5M2, and in other precisions, as INC computes them on a host."""
    kept = ("device_for_scales", "fp8_config", "hp_dtype", "method", "scales_dec")
    e = load("scales/extra.json")
    dump("extra_scales.json", {"amax": e["values_dec"], "scales": [{k: r[k] for k in kept} for r in e["act"]
                                                                   if r["device_for_scales"] and "scales_dec" in r]})


def validation():
    """Configurations as text, and what INC says on each device: the message, or the parts of the result that Octavo has too. Devices that
    give the same answer stand together."""
    kept = ("mode", "dump_stats_path", "recalc_scales", "ignore_modules_wo_measures", "seperate_measure_files", "measure_exclude", "fp8_config",
            "hp_dtype", "observer", "use_qdq", "fake_quant", "scale_format", "dynamic_quantization", "measure_on_hpu",
            "calibration_sample_interval", "device_for_scales", "scale_method", "use_stats_files", "scale_file", "allowlist", "blocklist",
            "row_parallel_linear_allreduce_quantization")
    cases = {}
    for c in load("validation/validation_cases.json"):
        case = {k: c[k] for k in ("name", "config", "ok", "exception", "message", "warnings")}
        result = (c["stages"].get("parse") or {}).get("result")
        if c["ok"] and result:
            case["result"] = {k: result[k] for k in kept if k in result}
            device = case["result"].get("device_for_scales")
            if device == "INCAcceleratorType." + c["device"].upper():  # the card's own
                case["result"]["device_for_scales"] = "INCAcceleratorType.<CARD>"
        cases.setdefault(json.dumps(case), []).append(c["device"])
    dump("validation.json", [dict(json.loads(case), devices=devices) for case, devices in cases.items()])


def scale_method_dict():
    for rank in "01":
        for ending in ("json", "npz"):
            name = "hpu_gaudi3/tp2/inc_output_hooks_maxabs_%s_2.%s" % (rank, ending)
            copy("files/" + name, name)
    for name in ("hpu_gaudi2/shape_observer_mode_shape/inc_output_hooks_shape_0_1.json", "hpu_gaudi2/prefill_only_fsdpa/inc_output_hooks_maxabs_0_1.npz",
                 "hpu_gaudi2/prefill_only_fsdpa/inc_output_hooks_maxabs_MAXABS_HW_0_1.json"):
        copy("files/" + name, name)
    for name in ("cfg_quant.json", "scale_method_dump.json", "inc_output_hooks_maxabs_0_1.npz", "inc_output_hooks_maxabs_MAXABS_POW2_0_1.json"):
        copy("files/hpu_gaudi2/scale_method_dict/" + name, "hpu_gaudi2/scale_method_dict/" + name)


if __name__ == "__main__":
    activations()
    weights()
    files()
    smollm2()
    allowblock()
    dynamic()
    extra()
    validation()
    scale_method_dict()
