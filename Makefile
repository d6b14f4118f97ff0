# Octavo is built by Meson and Ninja; this file only puts their steps, and what they need, in order. `make help` lists the commands.
# Every step is skipped when its result is there already. Its output goes to build/logs and is shown when it fails.

PYTHON := .deps/venv/bin/python3
JOBS ?= $(shell nproc)
# SANITIZE=1: AddressSanitizer and UndefinedBehaviorSanitizer, in a folder of their own.
BUILD := $(if $(SANITIZE),build-asan,build)
comma := ,
SETUP_FLAGS := $(if $(SANITIZE),-Db_sanitize=address$(comma)undefined -Dbuildtype=debugoptimized)
BUILD_NAME := $(if $(SANITIZE),$(BUILD) with sanitizers,$(BUILD))
TEST_FLAGS := $(if $(SANITIZE),--timeout-multiplier 4)

# Seconds that each fuzz target of the text layer runs; the others run a third of it.
FUZZ_SECONDS ?= 30
export FUZZ_SECONDS

.NOTPARALLEL:
.PHONY: all test test-reference fuzz fuzzers model tokenizers demo bench-smoke bench-peers bench-quality bench-serving bench-text clean format check-format help prepare prepare-test

all: $(BUILD)/build.ninja
	@tools/step.sh $(BUILD) "building $(BUILD)/octavo" ninja -C $(BUILD) -j$(JOBS) program

prepare:
	@tools/setup.sh build

prepare-test: prepare
	@tools/setup.sh test

build/build.ninja build-asan/build.ninja: | prepare
	@tools/step.sh $(BUILD)-setup "configuring $(BUILD_NAME)" meson setup $(BUILD) $(SETUP_FLAGS)

# Another compiler sees other mistakes: everything must compile with clang too, without a warning. Nothing built here is run.
build-clang/build.ninja: | prepare-test
	@tools/step.sh build-clang-setup "configuring build-clang" env CC=clang meson setup build-clang -Dbuildtype=debug

build-fuzz/build.ninja: | prepare-test
	@tools/step.sh build-fuzz-setup "configuring build-fuzz" env CC=clang \
	  meson setup build-fuzz -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false -Dbuildtype=debugoptimized

fuzzers: prepare-test build-fuzz/build.ninja
	@tools/step.sh build-fuzz "building the fuzz targets" ninja -C build-fuzz -j$(JOBS) fuzzers

FUZZ = meson test -C build-fuzz --no-rebuild --suite fuzz --num-processes $(JOBS) </dev/null

fuzz: fuzzers
	@$(FUZZ); status=$$?; $(PYTHON) tools/test_summary.py build-fuzz && exit $$status

test: prepare-test tokenizers $(BUILD)/build.ninja build-clang/build.ninja $(if $(SANITIZE),fuzzers)
	@tools/step.sh $(BUILD)-all "building $(BUILD_NAME) and the tests" ninja -C $(BUILD) -j$(JOBS)
	@tools/step.sh build-clang "building with clang" ninja -C build-clang -j$(JOBS)
	@echo "==> testing ..."
	@rm -f $(BUILD)/meson-logs/testlog* $(BUILD)/meson-logs/*.pytest.xml
	@meson test -C $(BUILD) --no-rebuild --num-processes $(JOBS) $(TEST_FLAGS) </dev/null; status=$$?; \
	  $(if $(SANITIZE),$(FUZZ) || status=1;) \
	  $(PYTHON) tools/test_summary.py $(BUILD) $(if $(SANITIZE),build-fuzz) && exit $$status

model: prepare
	@PYTHON=$(PYTHON) tools/fetch_model.sh

tokenizers: model
	@PYTHON=$(PYTHON) tools/fetch_tokenizers.sh

demo: all model
	@tools/setup.sh demo
	@tools/demo.sh

# INC, compressed-tensors and transformers themselves beside Octavo; tests/reference/README.md. No part of `make test`: they are gigabytes.
REFERENCE := .deps/reference-venv
test-reference: all
	@test -x $(REFERENCE)/bin/python3 || { \
	  echo "PyTorch with CUDA is fetched once for this: 2.7 GB, and 5.7 GB in $(REFERENCE) (0.2 and 1 GB where pip finds PyTorch for CPUs)."; \
	  tools/step.sh test-reference-venv "creating a Python environment in $(REFERENCE)" $(PYTHON) -m venv $(REFERENCE); }
	@cmp -s tests/reference/requirements.txt $(REFERENCE)/requirements.installed || { \
	  tools/step.sh test-reference-pip "installing Intel Neural Compressor, transformers and PyTorch (minutes)" \
	    $(REFERENCE)/bin/python3 -m pip install --disable-pip-version-check --requirement tests/reference/requirements.txt && \
	  cp tests/reference/requirements.txt $(REFERENCE)/requirements.installed; }
	@PYTHONDONTWRITEBYTECODE=1 $(REFERENCE)/bin/python3 -m pytest -q -p no:cacheprovider tests/reference

# What the engine adds to the forward pass: throughput of 16 requests, first tokens, shared prompts, warm-up, memory, planning, sampling.
bench-serving: all model
	@tools/step.sh bench-serving-build "building the benchmark" ninja -C $(BUILD) -j$(JOBS) bench/bench_serving bench/bench_scheduling
	@$(BUILD)/bench/bench_scheduling
	@$(BUILD)/bench/bench_serving smollm2 fp8 fp8_inc
	@$(BUILD)/bench/bench_serving --requests 100000 tests/golden/model/models/tiny_gguf/model.gguf

# The text layer beside the reference libraries, which are installed for it.
bench-text: all tokenizers
	@tools/step.sh bench-text-pip "installing tiktoken and tokenizers" \
	  $(PYTHON) -m pip install --disable-pip-version-check --requirement bench/requirements.txt
	@tools/step.sh bench-text-build "building the benchmark" ninja -C $(BUILD) -j$(JOBS) bench/bench_text
	@$(PYTHON) bench/text.py

# A minute: whether a change made the kernels slower.
bench-smoke: all
	@build/octavo bench --shape 135m --dtype fp8,bf16 --batch 1,16 --depth 0,1024 --gen 16 --rounds 3

# llama.cpp beside Octavo on the same weights: 160 MB, built once in minutes, and 4 GB of files in build/peers. PEERS: flags of bench/peers.py.
PEERS_PYTHON := .deps/peers-venv/bin/python3
bench-peers: all model
	@cmp -s bench/peers_requirements.txt .deps/peers-venv/requirements.installed || { \
	  tools/step.sh bench-peers-venv "creating a Python environment in .deps/peers-venv" $(PYTHON) -m venv .deps/peers-venv && \
	  tools/step.sh bench-peers-pip "building llama.cpp for this processor (minutes)" \
	    env CMAKE_ARGS=-DGGML_NATIVE=ON CMAKE_BUILD_PARALLEL_LEVEL=$(JOBS) $(PEERS_PYTHON) -m pip install --disable-pip-version-check \
	    --no-binary llama-cpp-python --requirement bench/peers_requirements.txt && \
	  cp bench/peers_requirements.txt .deps/peers-venv/requirements.installed; }
	@$(PEERS_PYTHON) bench/peers.py --output docs/speed.md $(PEERS)

# Hours on two cores: rows that were made are kept, and an interrupted run goes on. QUICK=1 takes a sample.
bench-quality: all model
	@$(PYTHON) bench/quality.py $(if $(QUICK),--quick) --output docs/quality.md

format:
	@tools/check_format.sh --fix

check-format:
	@tools/check_format.sh

# The Python environment and the HTTP parser in .deps, and the model in the user's cache, stay.
clean:
	@rm -rf build build-asan build-clang build-fuzz

help:
	@echo "make                  build the program: build/octavo"
	@echo "make test             build and run all tests"
	@echo "make test-reference   compare with Intel Neural Compressor and transformers themselves (fetches 2.7 GB once; then 5 minutes)"
	@echo "make test SANITIZE=1  the same with AddressSanitizer and UndefinedBehaviorSanitizer, in build-asan, and make fuzz"
	@echo "make fuzz             run the fuzz targets of every parser, in build-fuzz; FUZZ_SECONDS=N makes a long run (default: 30)"
	@echo "make model            fetch the default model, SmolLM2-135M-Instruct (93 MB), into the user's cache"
	@echo "make demo             calibrate it, compare FP8 with bf16, serve it and chat with it once"
	@echo "make bench-serving    measure what the engine adds to the forward pass (minutes)"
	@echo "make bench-smoke      show the kernels' speed as fractions of the machine's limits (a minute)"
	@echo "make bench-peers      compare decode and prefill with llama.cpp, on the same weights, into docs/speed.md (builds it once; 15 minutes)"
	@echo "make bench-text       compare the text layer's speed with tiktoken and Hugging Face tokenizers (minutes)"
	@echo "make bench-quality    measure what each kind of quantization costs (hours; QUICK=1: a sample), into docs/quality.md"
	@echo "make format           format the C files; make check-format only checks them"
	@echo "make clean            remove what was built"
	@echo "make tokenizers       fetch the published tokenizers that tests compare with (22 MB), into the user's cache"
	@echo "Variables: JOBS=N (processes that build and test; default: all cores)"
