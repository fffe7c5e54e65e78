# make demo and make test need nothing before them; make help lists the rest.
#
#   make predict INPUT=messages.jsonl MODEL=models/feedback     one file
#   make fit-all                                                every taxonomy of a folder, stale models only
#   make predict-all INPUTS=inbox MODEL=models/feedback         every file of a folder, stale results only

PYTHON ?= python3
VENV ?= .venv
CASCADE := $(VENV)/bin/cascade
INSTALLED := $(VENV)/.cascade-installed
TESTED := $(VENV)/.cascade-tests-installed
APT := DEBIAN_FRONTEND=noninteractive apt-get --quiet --quiet --yes

TAXONOMIES ?= taxonomies
MODELS ?= models
MODEL ?= $(MODELS)/feedback
INPUTS ?= inbox
OUTPUTS ?= predictions
# Many tests wait for services, which takes no core.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
OUT ?= $(OUTPUTS)/$(basename $(notdir $(INPUT:.gz=))).jsonl

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install install-tests demo test test-slow test-train lint browser pictures format bench fit predict evaluate fit-all predict-all \
	clinc150 goemotions nlupp us_bills clean

help: ## list the targets
	@grep -hE '^[a-z0-9_ -]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([^:]+):.*## (.*)/\1\t\2/' \
	| awk -F'\t' '{printf "  %-12s %s\n", $$1, $$2}'
	@echo '  clinc150, goemotions, nlupp, us_bills DATA=folder: check, fit, predict and evaluate that data set'

install: $(INSTALLED) ## put the package into .venv
install-tests: $(TESTED) ## put it there with all that its tests need

$(INSTALLED): EXTRAS :=
$(TESTED): EXTRAS := [test]
$(INSTALLED) $(TESTED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo 'Cascade needs Python 3.11 or later; name one with PYTHON=python3.11' >&2; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.$(EXTRAS)'
	@touch $@

demo: $(INSTALLED) ## train on the feedback data, measure, and label some new messages
	@echo '$$ cascade fit taxonomies/feedback.yaml' && $(CASCADE) fit taxonomies/feedback.yaml --out $(MODELS)/feedback
	@echo '$$ cascade evaluate training_data/feedback_test.jsonl' && \
	$(CASCADE) evaluate training_data/feedback_test.jsonl --model $(MODELS)/feedback
	@echo '$$ cascade predict training_data/new_messages.jsonl' && \
	$(CASCADE) predict training_data/new_messages.jsonl --model $(MODELS)/feedback

test: $(TESTED) lint browser ## format, lint, types, import layers, and all tests but the slow ones
	$(VENV)/bin/python -m pytest --numprocesses $(WORKERS) --dist worksteal

test-slow: $(TESTED) ## the tests that take minutes
	$(VENV)/bin/python -m pytest -m slow

TRAINS := .venv-train
test-train: $(TRAINS)/.installed ## the tests that train with torch, in an environment of their own (5.6 GB)
	$(TRAINS)/bin/python -m pytest -m train tests/train

$(TRAINS)/.installed: pyproject.toml
	test -x $(TRAINS)/bin/python || $(PYTHON) -m venv $(TRAINS)
	$(TRAINS)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[train]' hypothesis pytest
	@touch $@

lint: $(TESTED) ## format, lint, types and import layers, changing nothing
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

# Only root may, only Debian and its kin have it, and only tests of pages need it: they are skipped without.
browser: ## Debian's Chromium, which the tests of pages need, where it is not there and can be had
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	timeout 300 sh -c '$(APT) update && $(APT) install --no-install-recommends chromium' >/dev/null; } || \
	echo 'there is no Chromium, and it cannot be installed here: the tests of pages are skipped' >&2

pictures: $(TESTED) ## the pictures of the README and the docs, from our own data
	$(VENV)/bin/python tests/helpers/pictures.py

format: $(TESTED) ## put the code into its form
	$(VENV)/bin/ruff format
	$(VENV)/bin/ruff check --fix

PEERS := .peers/.installed

bench: $(TESTED) $(PEERS) ## [BENCH=fit,predict] [ROWS=n] [MAX_ROWS=n] [MAX_LABELS=n]: beside its peers
	$(VENV)/bin/python tests/benchmarks/run.py $(BENCH:%=--only %) $(ROWS:%=--rows %) \
	$(MAX_ROWS:%=--max-rows %) $(MAX_LABELS:%=--max-labels %)

$(PEERS):
	test -x .peers/bin/python || $(PYTHON) -m venv .peers
	.peers/bin/python -m pip install --quiet --disable-pip-version-check \
	'numpy<2' scikit-learn omikuji libpecos hiclass pyyaml
	@touch $@

fit: $(INSTALLED) ## TAXONOMY=file [DATA=rows]: check, then train
	$(CASCADE) check $(TAXONOMY) $(DATA:%=--data %)
	$(CASCADE) fit $(TAXONOMY) $(DATA:%=--data %)

predict: $(INSTALLED) ## INPUT=rows [MODEL=folder] [OUT=file]: label the rows of one file
	@test -n '$(INPUT)' || { echo 'usage: make predict INPUT=rows.jsonl [MODEL=models/name] [OUT=file]' >&2; exit 2; }
	$(CASCADE) predict $(INPUT) --model $(MODEL) --out $(OUT)

evaluate: $(INSTALLED) ## INPUT=rows [MODEL=folder]: measure on labelled rows
	@test -n '$(INPUT)' || { echo 'usage: make evaluate INPUT=rows.jsonl [MODEL=models/name]' >&2; exit 2; }
	$(CASCADE) evaluate $(INPUT) --model $(MODEL)

# A taxonomy without data of its own is for `make fit DATA=...`; the others are trained where they are stale.
WITH_DATA := $(shell grep -lE '^ *train:' $(TAXONOMIES)/*.yaml 2>/dev/null)
fit-all: $(WITH_DATA:$(TAXONOMIES)/%.yaml=$(MODELS)/%/manifest.json) ## [TAXONOMIES=folder]: train what is stale

$(MODELS)/%/manifest.json: $(TAXONOMIES)/%.yaml $(wildcard training_data/*) | $(INSTALLED)
	$(CASCADE) fit $< --out $(@D)

LINES := jsonl ndjson json csv tsv
PACKED := $(foreach suffix,gz bz2 xz zst zip,$(LINES:%=%.$(suffix)))
INBOX := $(wildcard $(addprefix $(INPUTS)/*.,$(LINES) $(PACKED) parquet xlsx xls ods))
predict-all: $(INBOX:$(INPUTS)/%=$(OUTPUTS)/%.labels.jsonl) ## INPUTS=folder [MODEL=folder]: label what is stale

$(OUTPUTS)/%.labels.jsonl: $(INPUTS)/% $(MODEL)/manifest.json | $(INSTALLED)
	$(CASCADE) predict $< --model $(MODEL) --out $@ || test $$? -eq 3

# Any of the names, plain or gzipped, that a data folder may hold.
rows_of = $(wildcard $(addprefix $(DATA)/,$(foreach one,$(1),$(one).jsonl $(one).jsonl.gz)))
clinc150 goemotions nlupp us_bills: $(INSTALLED)
	@test -n '$(call rows_of,train)' || \
	{ echo 'usage: make $@ DATA=folder, with train.jsonl and test.jsonl in it; see taxonomies/$@.yaml' >&2; exit 2; }
	$(CASCADE) check taxonomies/$@.yaml $(patsubst %,--data %,$(call rows_of,train valid))
	$(CASCADE) fit taxonomies/$@.yaml $(patsubst %,--data %,$(call rows_of,train valid)) --out $(MODELS)/$@
	$(CASCADE) predict $(call rows_of,test) --model $(MODELS)/$@ --out $(OUTPUTS)/$@.jsonl
	$(CASCADE) evaluate $(call rows_of,test) --model $(MODELS)/$@

clean: ## remove models, predictions and caches, but not .venv
	rm -rf $(MODELS) $(OUTPUTS) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
