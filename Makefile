PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
# Each file that is installed has a hash in locks/. But for torch: its build depends on the machine.
LOCKED := $(PIP) install --no-deps --require-hashes
# The oldest TRL that pyproject.toml allows, and the tests of all that touches it.
TRL_LOWEST := $(shell sed -n 's/.*"trl>=\([0-9.]*\),.*/\1/p' pyproject.toml | head -n 1)
TRL_TESTS := tests/contract/test_trl_seam.py tests/unit/llm/test_llm_loss.py \
  tests/unit/llm/test_llm_trainer.py tests/equivalence/test_language_run.py \
  tests/equivalence/test_gguf_checkpoints.py tests/equivalence/test_language_evaluation.py \
  tests/faults/test_language_loss.py
# The oldest of what the extra audio allows, and the tests of all that touches it (but for that
# against transformers' own processor, which was another then).
AUDIO_LOWEST := $(shell sed -n '/^audio = \[/,/^\]/s/.*"\(soundfile\|soxr\|transformers\)>=\([0-9.]*\)".*/\1==\2/p' pyproject.toml)
AUDIO_TESTS := tests/unit/audio/test_audio_trainer.py tests/unit/audio/test_audio_rows.py \
  tests/unit/audio/test_sound.py tests/equivalence/test_audio_run.py

# Their libraries' folder has this name because dill takes what lies elsewhere for a user's code.
APPS_TESTS := $(shell grep -rl --include='test_*.py' 'mark\.apps' tests)

# Two, whatever the machine: each has all libraries in its memory, about 2 GB.
TESTERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-deepspeed test-apps test-trl-lowest test-audio-lowest \
  test-gpu gpu-proof mutants faults lint package site check bench locks installed

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1  \2/p' Makefile

demo: $(VENV)/.installed ## fine-tune the embedded model and write runs/demo/report.html
	@$(PY) -m adrpo demo --output-dir runs/demo

test: $(VENV)/.installed-dev ## the fast test suite, by TESTERS processes of one thread each
	@OMP_NUM_THREADS=1 $(PY) -m pytest -m "not gpu and not slow and not deepspeed and not apps" \
	  -n $(TESTERS) --dist loadfile

test-slow: $(VENV)/.installed-dev ## several processes that train together, compiling, benchmarks
	@OMP_NUM_THREADS=1 $(PY) -m pytest -m "slow and not gpu and not apps" \
	  -n $(TESTERS) --dist loadfile

test-deepspeed: .deepspeed/.installed ## several processes that train by DeepSpeed
	@ADRPO_EXPECT_DEEPSPEED=1 PYTHONPATH=$(CURDIR)/.deepspeed $(PY) -m pytest -m deepspeed

test-apps: .apps/.installed ## what needs bitsandbytes, Gradio, MLflow, Ray, torchao, Trackio or W&B
	@ADRPO_EXPECT_APPS=1 PYTHONPATH=$(CURDIR)/.apps/site-packages $(PY) -m pytest -m apps $(APPS_TESTS)

test-gpu: $(VENV)/.installed-dev ## what a GPU computes beside the CPU, where there is one
	@$(PY) -m pytest -m gpu

# An interpreter of one's own (PY=python3) has the dependencies: nothing is installed for it.
ifneq ($(origin PY),command line)
gpu-proof: $(VENV)/.installed-dev
endif
gpu-proof: ## what only a GPU can show, in ten minutes; PY=python3 for an interpreter that has all
	@PYTHONPATH=$(CURDIR)/src:$(CURDIR)/benchmarks:$(CURDIR) $(PY) -m gpu_proof $(GPU_PROOF)

test-trl-lowest: .trl-lowest/$(TRL_LOWEST) ## the trainer of language models under the oldest TRL
	@ADRPO_EXPECT_TRL=$(TRL_LOWEST) PYTHONPATH=$(CURDIR)/.trl-lowest $(PY) -m pytest $(TRL_TESTS)

test-audio-lowest: .audio-lowest/.installed ## models that hear under the oldest transformers that they allow
	@ADRPO_EXPECT_AUDIO="$(AUDIO_LOWEST)" PYTHONPATH=$(CURDIR)/.audio-lowest $(PY) -m pytest $(AUDIO_TESTS)

mutants: $(VENV)/.installed-dev ## plant faults one at a time, each of which a test must tell (an hour)
	@$(PY) -m tools.mutants --jobs 2 --out benchmarks/results/mutants

lint: $(VENV)/.installed-dev ## ruff, formatting, pyright
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m pyright

package: $(VENV)/.installed-dev ## build the wheel and run it from an empty folder
	@.ci/package $(PY)

site: $(VENV)/.installed-dev ## build the documentation into build/site, warnings as errors
	@PYTHONPATH=$(CURDIR)/src HF_HUB_OFFLINE=1 $(PY) -m sphinx -q -E -W --keep-going -c docs . build/site
	@echo "build/site/index.html"

check: lint site test test-slow test-deepspeed test-apps test-trl-lowest test-audio-lowest package ## all that CI runs

installed: .deepspeed/.installed .apps/.installed .trl-lowest/$(TRL_LOWEST) .audio-lowest/.installed ## what the other environments of the tests need

bench: $(VENV)/.installed ## measure the efficiency of the training loop
	@$(PY) benchmarks/loop_efficiency.py

# Hours on two cores: FAULTS='--kills 4 --damages 20' is a part of it, SEED another course.
SEED ?= 0
faults: $(VENV)/.installed-dev ## kill, damage and starve runs of every domain, and give the commands malformed inputs
	@OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 PYTHONPATH=$(CURDIR):$(CURDIR)/tests $(PY) -m tools.faults --seed $(SEED) $(FAULTS)

locks: $(PY) ## write the lock files again, after a change of pyproject.toml or constraints.txt
	@locks/make $(PY)

$(PY):
	@"$(PYTHON)" -c 'import sys; sys.version_info >= (3, 11) or sys.exit("adrpo needs Python 3.11 or newer; this is " + sys.version.split()[0] + ": set PYTHON, as in `make PYTHON=python3.12 demo`")'
	@"$(PYTHON)" -m venv $(VENV)

# The stamps make the second call skip pip. The second one waits for the first, so that
# `make -j` never runs two installations into one environment.
$(VENV)/.installed: pyproject.toml constraints.txt locks/adrpo.txt | $(PY)
	@echo "Installing adrpo into $(VENV) (once; PyTorch is a large download) ..."
	@$(LOCKED) --requirement locks/adrpo.txt
	@$(PIP) install --constraint constraints.txt torch
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed locks/dev.txt
	@echo "Installing the development tools into $(VENV) (once) ..."
	@$(LOCKED) --requirement locks/dev.txt
	@$(PIP) check
	@touch $@

# In a folder of its own, with what .venv lacks of its needs: whatever finds DeepSpeed imports it.
.deepspeed/.installed: locks/deepspeed.txt | $(VENV)/.installed-dev
	@echo "Installing DeepSpeed into .deepspeed (alone: all else is that of $(VENV)) ..."
	@rm -rf .deepspeed
	@$(LOCKED) --target .deepspeed --requirement locks/deepspeed.txt
	@touch $@

.apps/.installed: locks/apps.txt | $(VENV)/.installed-dev
	@echo "Installing bitsandbytes, Gradio, MLflow, Ray, torchao, Trackio and W&B into .apps (all else is that of $(VENV)) ..."
	@rm -rf .apps
	@$(LOCKED) --target .apps/site-packages --requirement locks/apps.txt
	@touch $@

.trl-lowest/$(TRL_LOWEST): locks/lowest-trl.txt $(VENV)/.installed-dev
	@echo "Installing TRL $(TRL_LOWEST) into .trl-lowest (alone: all else is that of $(VENV)) ..."
	@rm -rf .trl-lowest
	@$(LOCKED) --target .trl-lowest --requirement locks/lowest-trl.txt
	@touch $@

.audio-lowest/.installed: pyproject.toml locks/lowest-audio.txt | $(VENV)/.installed-dev
	@echo "Installing $(AUDIO_LOWEST) into .audio-lowest (alone: all else is that of $(VENV)) ..."
	@rm -rf .audio-lowest
	@$(LOCKED) --target .audio-lowest --requirement locks/lowest-audio.txt
	@touch $@
