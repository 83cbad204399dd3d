# Everything is made below .cache/ and goes with `make clean`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.cache/tools/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export DAGSTER_PYTHON := $(CURDIR)/.cache/dagster/bin/python
RIG := tests/rig/rig
CATALOGUE := plugins/plugin_utils/config/validator/catalogues
CATALOGUES := $(notdir $(wildcard $(CATALOGUE)/*.json))

.PHONY: help quickstart clean test test-full rig lint unit sanity importer molecule plants bench bench-cluster figures locks docs validate validator catalogue

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "make %-13s %s\n", $$1, $$2}'

quickstart:  ## a running stack on a throw-away host, from a bare Debian machine; prints its URL
	@tests/rig/quickstart

clean:  ## remove all that quickstart and the tests made
	@$(RIG) down

test:  ## the whole suite (sets up what it needs)
	@tests/run

test-full:  ## the same with all rounds, the plants that need hosts, and the bench
	@tests/run --full

rig:
	@$(RIG) suite

lint: rig  ## ruff, mypy, yamllint, ansible-lint, shellcheck
	@tools/lint.sh

unit: rig  ## unit tests of the plugins and host programs
	@pytest -q tests/unit

# Needs no more than Python with PyYAML; only a machine without it gets the tools first.
validate:  ## check files: make validate FILES="dagster.yaml workspace.yaml" [KIND=workspace] [FORMAT=json] [DAGSTER=1.12]
	@python3 -c 'import yaml' 2>/dev/null || $(RIG) tools >&2
	@python3 scripts/validate.py $(KIND:%=--kind %) $(FORMAT:%=--format %) $(DAGSTER:%=--dagster %) $(FILES)

validator: rig  ## the validator against real Dagster: catalogue, corpus, mutated files, speed
	@tests/validator/run

catalogue:  ## read the catalogue of every supported Dagster minor from its packages again
	@$(RIG) oracle
	@for minor in $(CATALOGUES:%.json=%); do \
	  .cache/oracle/$$minor/bin/python -B tests/validator/catalogue.py $(CATALOGUE)/$$minor.json || exit; done
	@python tests/validator/agreement.py corpus --write

sanity: rig  ## ansible-test sanity
	@tools/sanity.sh

importer: rig  ## build the collection and check it as Galaxy would
	@tools/importer.sh

molecule: rig  ## one scenario on rig hosts: make molecule SCENARIO=default
	@molecule test -s $(or $(SCENARIO),default)

plants: rig  ## small breakages, each of which a test must notice (make plants ONLY=kind/name)
	@tests/plants/run $(ONLY)

bench: rig  ## how fast a deployment is, as ratios in one run (tests/bench/README.md explains them)
	@tests/bench/run

bench-cluster: rig  ## what six hosts cost against one
	@tests/bench/run cluster

figures:  ## write the tables of docs/reliability.md from what the scenarios measured
	@python3 tests/bench/reliability.py

locks: rig  ## resolve every lock again
	@python tests/requirements/lock.py --upgrade

docs: rig  ## write the generated part of each role's README
	@python tools/docs.py
