# Everything is made below .cache/ and goes with `make clean`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.cache/tools/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export DAGSTER_PYTHON := $(CURDIR)/.cache/dagster/bin/python
RIG := tests/rig/rig

.PHONY: help quickstart clean test test-full rig lint unit sanity importer molecule bench locks docs

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

quickstart:  ## a running stack on a throw-away host, from a bare Debian machine; prints its URL
	@tests/rig/quickstart

clean:  ## remove all that quickstart and the tests made
	@$(RIG) down

test: rig  ## the whole suite (sets up what it needs)
	@tests/run

test-full: rig  ## the same with all rounds and the full benchmark
	@tests/run --full

rig:
	@$(RIG) suite

lint: rig  ## ruff, mypy, yamllint, ansible-lint, shellcheck
	@tests/lint.sh

unit: rig  ## unit tests of the plugins and host programs
	@pytest -q tests/unit

sanity: rig  ## ansible-test sanity
	@tests/sanity.sh

importer: rig  ## build the collection and check it as Galaxy would
	@tests/importer.sh

molecule: rig  ## one scenario on rig hosts: make molecule SCENARIO=default
	@molecule test -s $(or $(SCENARIO),default)

bench: rig  ## how fast a deployment is, as ratios in one run (tests/bench/README.md explains them)
	@tests/bench/run

locks: rig  ## resolve every lock again
	@python tests/requirements/lock.py --upgrade

docs: rig  ## write the generated part of each role's README
	@python tests/docs.py
