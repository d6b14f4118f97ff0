"""The commands that look at and change a calibration's files: inspect, diff, scales, unify, expand, tune, report."""
import json
import os
import re
import resource
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from test_cli import GOLDEN, PROGRAM, TINY, calibrated, environment, evaluate, fails, files_in, octavo, prompts, succeeds, text  # noqa: F401: three of them are fixtures

UNIFY = GOLDEN / "inc" / "unify"
COMMANDS = {"diff": " A B", "tune": " MODEL", "report": " DIR", "scales": " FILE", "unify": "", "expand": ""}


@pytest.mark.parametrize("command, arguments", COMMANDS.items())
def test_a_tools_help_starts_with_its_usage_and_fits_the_screen(command, arguments):
    out = succeeds(command, "--help").stdout
    assert out.startswith(f"Usage: octavo {command}{arguments} [flags]")
    assert max(map(len, out.splitlines())) <= 120
    assert f"\n  {command} " in succeeds("help").stdout


# --- unify and expand -----------------------------------------------------------------------------------------------------------------


def test_unified_files_are_those_of_the_calibration_scripts(tmp_path):
    out = succeeds("unify", "-r", 1, "-m", UNIFY / "tp2", "-o", tmp_path).stdout
    assert out == f"2 ranks as 1 in {tmp_path}: 1 measurements, 1 scale files\n"
    for path in (UNIFY / "tp2_to_1").iterdir():
        assert (tmp_path / path.name).read_text() == path.read_text()
    assert (tmp_path / "inc_output_hooks_maxabs_0_1.npz").exists()


def test_experts_go_to_one_rank_and_back_to_four(tmp_path):
    succeeds("unify", "-r", 1, "-u", "-m", UNIFY / "ep4", "-o", tmp_path / "one", "-s")
    assert not list((tmp_path / "one").glob("*ARBITRARY*"))
    assert succeeds("expand", "-w", 4, "-m", tmp_path / "one", "-o", tmp_path / "four").stdout == (
        f"1 rank as 4 in {tmp_path}/four: 4 measurements\n")
    for path in (UNIFY / "ep4_to_1_to_4").iterdir():
        assert json.loads((tmp_path / "four" / path.name).read_text()) == json.loads(path.read_text())


def test_a_limit_on_file_sizes_leaves_the_old_files(tmp_path):
    succeeds("unify", "-r", 1, "-m", UNIFY / "tp2", "-o", tmp_path)
    before = files_in(tmp_path)
    result = subprocess.run([PROGRAM, "unify", "-r", "1", "-m", UNIFY / "tp2", "-o", tmp_path], capture_output=True, text=True,
                            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)))
    assert result.returncode == 1 and "cannot write: File too large" in result.stderr
    assert files_in(tmp_path) == before


def test_what_cannot_be_unified_is_a_failure(tmp_path):
    fails(2, "--rank N is missing", "unify", "-m", UNIFY / "ep4")
    fails(2, "--measurements DIR is missing", "unify", "-r", 1)
    fails(2, "--rank: 1 to 1024 expected, 0 found", "unify", "-r", 0, "-m", UNIFY / "ep4")
    fails(2, "--target-world-size: 1 to 1024 expected, 100000 found", "expand", "-w", 100000, "-m", UNIFY / "ep4")
    fails(2, "Original total_rank 4 should be larger than your target rank 3", "unify", "-r", 3, "-m", UNIFY / "ep4", "-o", tmp_path / "x")
    fails(1, "expected, none found", "unify", "-r", 1, "-m", tmp_path, "-o", tmp_path / "x")
    fails(1, "*_hooks_*_0_1.json, expected, none found", "expand", "-w", 2, "-m", UNIFY / "ep4", "-o", tmp_path / "x")
    assert not (tmp_path / "x").exists()


# --- diff -----------------------------------------------------------------------------------------------------------------------------


def test_the_same_calibration_does_not_differ(calibrated):
    folder = calibrated[0] / "model/g3"
    assert "0 differ" in succeeds("diff", folder, calibrated[0]).stdout
    report = json.loads(succeeds("diff", folder, folder, "--json").stdout)
    assert report["differ"] == 0 and report["tensors"] > 50 and report["only_in_a"] == report["only_in_b"] == []


def test_what_differs_most_comes_first(calibrated, tmp_path):
    shutil.copytree(calibrated[0] / "model/g3", tmp_path / "g3")
    path = tmp_path / "g3/inc_output_hooks_maxabs_0_1.json"
    measurement = json.loads(path.read_text())
    nodes = measurement["Nodes"]
    nodes["lm_head"]["inputs"][0][0][0] *= 2
    nodes["model.layers.1.mlp.down_proj"]["params"]["weight"][0][0] /= 8
    del nodes["model.layers.0.self_attn.o_proj"]
    path.write_text(json.dumps(measurement))
    path.with_suffix(".npz").unlink()
    report = json.loads(succeeds("diff", calibrated[0] / "model/g3", tmp_path / "g3", "--json").stdout)
    assert [(d["what"], d["module"], d["tensor"], d["ratio"]) for d in report["differences"]] == [
        ("range", "model.layers.1.mlp.down_proj", "weight", 0.125), ("range", "lm_head", "inputs[0]", 2)]
    assert report["only_in_a"] == ["model.layers.0.self_attn.o_proj"]
    table = succeeds("diff", calibrated[0] / "model/g3", tmp_path / "g3", "--limit", 1).stdout
    assert "2 differ (1 shown, --limit 0 shows all)" in table and "only in A: model.layers.0.self_attn.o_proj" in table


def test_two_files_are_compared_whatever_they_are_called(calibrated, tmp_path):
    source = calibrated[0] / "model/g3/inc_output_hooks_maxabs_0_1.json"
    shutil.copy(source, tmp_path / "other.json")
    assert "0 differ" in succeeds("diff", source, tmp_path / "other.json").stdout


def test_what_has_another_shape_is_in_both():
    stem = str(GOLDEN / "inc/hpu_gaudi3/tp1/inc_output_hooks_maxabs")
    methods = [f"{stem}_{method}_0_1.npz" for method in ("MAXABS_HW", "ACT_MAXABS_POW2_WEIGHTS_PCS_MAXABS_POW2")]
    report = json.loads(succeeds("diff", *methods, "--json").stdout)
    assert "lm_head weight: 1 and 80 numbers" in report["other_shapes"] and report["only_in_a"] == report["only_in_b"] == []
    assert "\nin other shapes: lm_head weight: 1 and 80 numbers\n" in succeeds("diff", *methods).stdout
    fails(2, "one of each found", "diff", f"{stem}_0_1.npz", methods[0])


def test_folders_with_nothing_in_common_are_an_error(calibrated):
    fails(1, "octavo unify", "diff", calibrated[0] / "model/g3", UNIFY / "tp2")


# --- scales ---------------------------------------------------------------------------------------------------------------------------


def test_scales_of_a_measurement_file_are_those_of_the_model(calibrated):
    stem = calibrated[0] / "model/g3/inc_output_hooks_maxabs"
    for ending in [".json", ".npz"]:
        out = succeeds("scales", f"{stem}_0_1{ending}", "--method", "maxabs_hw", "--device", "gaudi3", "--json").stdout
        assert json.loads(out) == json.loads((calibrated[0] / f"{stem}_MAXABS_HW_0_1.json").read_text())
    table = succeeds("scales", f"{stem}_0_1.npz", "--method", "MAXABS_POW2", "--device", "gaudi2").stdout
    assert table.startswith("MAXABS_POW2, gaudi2: 25 modules\n") and "\nlm_head " in table


def test_incs_own_measurement_gives_incs_scales_but_for_the_division():
    folder = GOLDEN / "inc/hpu_gaudi3/tp1"
    out = succeeds("scales", folder / "inc_output_hooks_maxabs_0_1.npz", "--method", "maxabs_hw", "--json").stdout
    expected = json.loads((folder / "inc_output_hooks_maxabs_MAXABS_HW_0_1.json").read_text())["Nodes"]
    compared = 0
    for name, node in json.loads(out)["Nodes"].items():
        if name.endswith("_proj") or name == "lm_head":
            for found, theirs in [(node["inputs"][0], expected[name]["inputs"][0]), (node["params"]["weight"], expected[name]["params"]["weight"])]:
                assert found in (theirs, 2 * theirs, theirs / 2)  # cards multiply by a bf16 reciprocal where INC's host divides
                compared += 1
    assert compared == 18


@pytest.mark.parametrize("method, message", [("maxabs", 'expected, "maxabs" found'), ("maxabs_hw_opt_weight", "takes the weights"),
                                             ("maxabs_pcs_pow2", "at run time")])
def test_a_method_that_a_file_is_not_enough_for_is_refused(method, message, calibrated):
    fails(2, message, "scales", calibrated[0] / "model/g3/inc_output_hooks_maxabs_0_1.npz", "--method", method)


def test_scales_are_not_made_of_scales(calibrated):
    fails(2, "a measurement (Mode DynamicRange) expected", "scales", calibrated[0] / "model/g3/inc_output_hooks_maxabs_MAXABS_HW_0_1.npz")


# --- inspect --------------------------------------------------------------------------------------------------------------------------


def test_every_kind_of_file_is_shown(calibrated):
    folder = calibrated[0] / "model"
    stem = folder / "g3/inc_output_hooks_maxabs"
    for ending in [".json", ".npz"]:
        measurement, = json.loads(succeeds("inspect", f"{stem}_0_1{ending}", "--json").stdout)
        assert measurement["mode"] == "DynamicRange" and measurement["nodes"]["lm_head"]["inputs"][0][0] > 0
        scales, = json.loads(succeeds("inspect", f"{stem}_MAXABS_HW_0_1{ending}", "--json").stdout)
        assert scales["mode"] == "Scale" and scales["nodes"]["lm_head"]["params"]["weight"][0] > 0
    names, = json.loads(succeeds("inspect", f"{stem}_0_1_mod_list.json", "--json").stdout)
    assert "lm_head" in names["modules"]
    assert "\nlm_head\n" in succeeds("inspect", f"{stem}_0_1_mod_list.json").stdout
    config, = json.loads(succeeds("inspect", folder / "maxabs_quant_g3.json", "--json").stdout)
    assert config["mode"] == "QUANTIZE" and config["scale_method"] == "MAXABS_HW" and config["card"] == "gaudi3"
    assert config["scale file"].endswith("MAXABS_HW_0_1.npz")
    assert "dump_stats_path" in succeeds("inspect", folder / "maxabs_quant_g3.json").stdout


def test_infinity_is_read_from_json_too():
    path = UNIFY / "tp2/inc_output_hooks_maxabs_0_2.json"
    assert "inf" in succeeds("inspect", path).stdout
    measurement, = json.loads(succeeds("inspect", path, "--json").stdout)
    assert measurement["nodes"]["model.layers.0.self_attn.attn.impl.softmax"]["inputs"] == [[None]]


def test_a_nan_among_channels_is_shown(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"Mode": "DynamicRange", "Nodes": {"lm_head": {"inputs": [[[NaN]]], "params": {"weight": [[1.0], [NaN], [2.0]]}}}}')
    assert succeeds("inspect", path).stdout.splitlines()[2].split() == ["lm_head", "nan", "nan", "(3)"]


@pytest.mark.parametrize("text, message", [("[1]", "a list of names expected"), ("{", "line 1: "), ('{"mode": "FAST"}', "Invalid 'mode' value"),
                                           ('{"Nodes": []}', 'a dict "Nodes" expected')])
def test_a_file_that_is_none_of_them_is_an_error(text, message, tmp_path):
    (tmp_path / "x.json").write_text(text)
    result = octavo("inspect", tmp_path / "x.json")
    assert result.returncode in (1, 2) and message in result.stderr


# --- tune -----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tunable(calibrated, tmp_path):
    """A calibration of one's own: tuning writes beside it."""
    folder = tmp_path / "model"
    shutil.copytree(calibrated[0] / "model", folder)
    path = folder / "maxabs_quant_g3.json"
    path.write_text(path.read_text().replace(str(calibrated[0]), str(tmp_path)))
    return path


def tune(path, *args, **options):
    return json.loads(succeeds("tune", TINY, "--quant-config", path, "--json", *args, **options).stdout)


def test_a_bound_that_holds_blocks_nothing(tunable):
    report = tune(tunable, "--max-kl", 50)
    assert report["blocked"] == 0 and report["kl_after"] == report["kl_before"] > 0
    assert report["quant_config"] == str(tunable.with_name("tuned_quant_g3.json"))
    assert json.loads(tunable.with_name("tuned_quant_g3.json").read_text()) == json.loads(tunable.read_text())


def test_the_costliest_modules_are_left_in_bf16_until_the_bound_holds(tunable):
    before = tune(tunable, "--max-kl", 50)
    bound = before["kl_before"] / 2
    report = tune(tunable, "--max-kl", bound)
    assert report["kl_after"] <= bound < report["kl_before"] == before["kl_before"]
    assert 0 < report["blocked"] < len(report["modules"]) == 2 * 5 + 1
    assert report["modules"] == sorted(report["modules"], key=lambda module: -module["kl"])
    names = json.loads(tunable.with_name("tuned_quant_g3.json").read_text())["blocklist"]["names"]
    assert len(names) == report["blocked"] == sum(module["runs_as"] == "bf16" for module in report["modules"])
    assert tune(tunable, "--max-kl", bound) == report, "the same run gives the same result"


def test_what_was_found_is_what_runs(tunable, text):
    report = tune(tunable, "--max-kl", 0)
    assert report["kl_after"] == 0 and report["blocked"] == 11
    tuned = evaluate(text, "--quant-config", report["quant_config"], "--kv-cache-dtype", "fp8_inc", "--against", "bf16")["reference"]
    assert tuned["max_kl"] < 1e-12


def test_scale_methods_are_chosen_by_module(tunable):
    before = tune(tunable, "--max-kl", 50)["kl_before"]
    scales = tunable.parent / "g3/inc_output_hooks_maxabs_MAXABS_HW_0_1.npz"
    kept = scales.read_bytes()
    report = tune(tunable, "--max-kl", 50, "--by", "scale-methods", "--methods", "maxabs_arbitrary",
                  "act_maxabs_hw_weights_pcs_maxabs_pow2", "-o", tunable.with_name("methods_g3.json"))
    assert report["other_methods"] > 0 and report["kl_before"] == before
    config = json.loads(tunable.with_name("methods_g3.json").read_text())
    assert config["scale_method"]["default"]["activation"]["rounding_method"] == "HW_ALIGNED" and config["scale_method"]["nodes"]
    assert scales.read_bytes() == kept, "the base's scales are not touched"
    assert succeeds("inspect", TINY, "--quant-config", tunable.with_name("methods_g3.json")).returncode == 0


def test_a_tuning_that_fails_half_way_leaves_no_configuration(tunable):
    scales = tunable.parent / "g3/tuned/inc_output_hooks_maxabs_MAXABS_HW_0_1.npz"
    scales.mkdir(parents=True)  # where the scales of the methods that were found would go
    result = octavo("tune", TINY, "--quant-config", tunable, "--max-kl", 50, "--by", "scale-methods", "--methods", "maxabs_arbitrary")
    assert result.returncode == 1 and "cannot rename into place" in result.stderr
    assert not list(tunable.parent.glob("*tuned_*"))


def test_what_cannot_be_tuned_is_refused(tunable, tmp_path):
    fails(2, "octavo calibrate", "tune", TINY, env=environment())
    measuring = octavo("tune", TINY, "--quant-config", tunable.with_name("maxabs_measure_g3.json"))
    assert measuring.returncode == 2 and "mode QUANTIZE expected" in measuring.stderr
    other = gaudi2(tunable)
    fails(2, "a name that ends in _g2.json expected", "tune", TINY, "--quant-config", other, "-o", tmp_path / "tuned_g3.json")
    fails(2, "a name that ends in _g2.json expected", "tune", TINY, "--quant-config", other, "-o", tmp_path / "tuned.json", "--by",
          "scale-methods")
    fails(1, "cannot write there", "tune", TINY, "--quant-config", tunable, "-o", tmp_path / "nowhere/tuned_g3.json")
    assert tune(other, "--max-kl", 50)["quant_config"].endswith("tuned_quant_g2.json")
    fails(2, "makes scales at run time", "tune", TINY, "--quant-config", tunable, "--by", "scale-methods", "--methods", "maxabs_pcs_pow2")


def gaudi2(path):
    """The same configuration under the name, and with the folder, of a Gaudi 2."""
    shutil.copytree(path.parent / "g3", path.parent / "g2")
    other = path.with_name("maxabs_quant_g2.json")
    other.write_text(path.read_text().replace("/g3/", "/g2/"))
    for scales in (path.parent / "g2").glob("*MAXABS_HW*"):
        scales.unlink()
    return other


# --- report ---------------------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """How often each tag is in a page, and what attributes it has that name another place."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.references = {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.references += [value for name, value in attributes if name in ("href", "src", "srcset", "action", "xlink:href")]


@pytest.fixture
def page(tunable):
    out = succeeds("report", tunable.parent).stdout
    assert out == f"{tunable.parent}/report.html\n"
    return (tunable.parent / "report.html").read_text()


def test_a_page_needs_nothing_outside_it(page):
    parsed = Page(page)
    assert not parsed.references and not re.search("https?:|url\\(|@import", page)
    assert "script" not in parsed.tags and "link" not in parsed.tags and "img" not in parsed.tags


def test_a_page_shows_ranges_headroom_clipping_and_errors(page, tunable):
    parsed = Page(page)
    assert parsed.tags["svg"] == 1 + 3 + 3 and parsed.tags["figcaption"] == 7
    for text in ["Error of each module", "Ranges: inputs of linears", "Ranges: attention", "Headroom: weights", "Nothing that was measured is clipped"]:
        assert text in page
    measured = json.loads((tunable.parent / "g3/inc_output_hooks_maxabs_0_1.json").read_text())["Nodes"]["model.layers.1.mlp.down_proj"]
    amax = measured["inputs"][0][0][0]
    assert f"<tr><td>model.layers.1.mlp.down_proj<td>input<td>{amax:.6g}<td>" in page
    assert f"down_proj, layer 1: {amax:.4g}</title>" in page


def test_what_a_scale_cannot_hold_is_listed(tunable):
    folder = tunable.parent / "g3"
    path = folder / "inc_output_hooks_maxabs_0_1.json"
    measurement = json.loads(path.read_text())
    measurement["Nodes"]["model.layers.0.mlp.gate_up_proj"]["inputs"] = [[[1e6]]]
    path.write_text(json.dumps(measurement))
    scales = {name: (folder / name).read_bytes() for name in files_in(folder) if "MAXABS_HW" in name}
    succeeds("expand", "-w", 1, "-m", folder, "-o", folder)  # the NPZ from the JSON
    for name, data in scales.items():
        (folder / name).write_bytes(data)
    succeeds("report", folder, "-o", folder / "page.html")
    assert re.search("<tr><td>model.layers.0.mlp.gate_up_proj<td>input<td>1e\\+06<td>[0-9.]+<td>0.0 %", (folder / "page.html").read_text())


def test_headroom_is_that_of_the_card(tmp_path):
    shutil.copytree(GOLDEN / "inc/hpu_gaudi3/tp1", tmp_path / "g2")

    def cards(*arguments, folder=tmp_path):
        subprocess.run([PROGRAM, "report", *arguments, "-o", tmp_path / "page.html"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return set(re.findall("FP8 of (gaudi.)", (tmp_path / "page.html").read_text()))

    assert cards("g2") == cards(tmp_path) == cards(".", folder=tmp_path / "g2") == {"gaudi2"}
    assert cards("g2", "--device", "gaudi3") == {"gaudi3"}
    (tmp_path / "g2").rename(tmp_path / "files")
    assert cards("files") == {"gaudi3"} and cards("files", "--device", "gaudi2") == {"gaudi2"}


def test_names_from_a_file_do_not_become_markup(tmp_path):
    (tmp_path / "a").mkdir()
    nodes = {"model.layers.0.<script>alert(1)</script>": {"inputs": [[[1.0]]]}}
    (tmp_path / "a/x_hooks_maxabs_0_1.json").write_text(json.dumps({"LocalRank": 0, "Mode": "DynamicRange", "Nodes": nodes}))
    succeeds("expand", "-w", 1, "-m", tmp_path / "a", "-o", tmp_path / "b")
    succeeds("report", tmp_path / "b")
    assert "<script" not in (tmp_path / "b/report.html").read_text()


def test_a_page_does_not_replace_a_pipe(tunable, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    fails(2, "a regular file expected", "report", tunable.parent, "-o", tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_a_folder_without_measurements_has_no_page(tmp_path):
    fails(1, "measurement files (*_hooks_maxabs*.npz) expected, none found", "report", tmp_path)
    assert not (tmp_path / "report.html").exists()
