# Everything that is built lands in bin/, which is self-contained: a run
# compiles nothing. The flags are the same everywhere on purpose: another flag
# would compile Kubernetes again, which costs about 12 CPU minutes.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath -buildvcs=false

GO      ?= go
LDFLAGS := -ldflags "-s -w"

# What `make e2e` hands on: CLUSTER is the kind of cluster, KIND_IMAGE,
# KIND_CONFIG and NODES are settings of kind, LABELS is a Ginkgo label filter,
# DIALECT is the mesh's, FEATURES, EXEMPT_FEATURES and PROFILE say what is judged
# and what is skipped, ARGS are further flags of the suite (see README).
CLUSTER     ?= embedded
KIND_IMAGE  ?=
KIND_CONFIG ?=
NODES       ?=
LABELS      ?=
DIALECT     ?=
FEATURES    ?=
EXEMPT_FEATURES ?=
PROFILE     ?=
ARGS        ?=

# abspath: a suite runs from a folder of its own.
WHERE = -cluster=$(CLUSTER) $(if $(KIND_IMAGE),-kind-image=$(KIND_IMAGE)) $(if $(KIND_CONFIG),-kind-config=$(abspath $(KIND_CONFIG))) $(if $(NODES),-nodes=$(NODES))

WHAT = $(if $(DIALECT),-dialect=$(DIALECT)) $(if $(FEATURES),-features=$(FEATURES)) $(if $(EXEMPT_FEATURES),-exempt-features=$(EXEMPT_FEATURES)) $(if $(PROFILE),-profile=$(PROFILE))

# CI systems name the folder of artifacts from where make is called.
ifdef ARTIFACTS
export ARTIFACTS := $(abspath $(ARTIFACTS))
endif

# Kubernetes takes its version from the linker; without it the node would call
# itself v0.0.0.
KUBE_VERSION := $(shell sed -n 's/.*k8s.io\/kubernetes \(v[0-9.]*\)$$/\1/p' cmd/meshproof-kube/go.mod)
KUBE_LDFLAGS := -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$(KUBE_VERSION) -X k8s.io/client-go/pkg/version.gitVersion=$(KUBE_VERSION)"

KUBE_SOURCES := $(wildcard cmd/meshproof-kube/*.go) cmd/meshproof-kube/go.mod cmd/meshproof-kube/go.sum

.PHONY: build nightly e2e transitions faults generated gauntlet abuse h2spec fuzz rules clusters bench test vet unit smoke clean FORCE

build: bin/meshproof bin/meshproof-agent bin/meshproof-grpcurl bin/grpcurl bin/meshproof-kube

# The Go tool itself finds out quickly that nothing has changed.
bin/meshproof bin/meshproof-agent bin/meshproof-grpcurl: FORCE
	@mkdir -p bin
	$(GO) build $(TAGS) $(LDFLAGS) -o $@ ./cmd/$(notdir $@)

# gRPC's tracing pages, which nobody looks at, are written with templates, and
# those keep the linker from leaving out what nobody calls: 4 MB of a program
# that runs in every pod.
bin/meshproof-agent: TAGS := -tags grpcnotrace

bin/grpcurl: go.mod
	@mkdir -p bin
	$(GO) build $(LDFLAGS) -o $@ github.com/fullstorydev/grpcurl/cmd/grpcurl
	@touch $@

bin/meshproof-kube: $(KUBE_SOURCES) Makefile
	@mkdir -p bin
	@echo "building meshproof-kube: the first time on a machine this compiles Kubernetes, about 12 CPU minutes"
	$(GO) -C cmd/meshproof-kube build $(KUBE_LDFLAGS) -o $(CURDIR)/$@ .
	@touch $@

# The library's folders as suites: what holds once policy has settled, what calls
# get between one policy and the next, and what they get while a part is away.
SUITES := conformance transitions faults

$(SUITES:%=bin/%.test): bin/%.test: FORCE
	@mkdir -p bin
	$(GO) test -c $(LDFLAGS) -o $@ ./suites/$*

# A suite runs from its own folder, as under go test, but writes its progress
# while it works.
SUITE = cd suites/$(1) && ../../bin/$(1).test -ginkgo.no-color -ginkgo.silence-skips -ginkgo.label-filter='$(LABELS)' $(WHERE) $(WHAT) $(ARGS)

e2e: build bin/conformance.test
	$(call SUITE,conformance)

transitions: build bin/transitions.test
	$(call SUITE,transitions)

faults: build bin/faults.test
	$(call SUITE,faults)

# Scenarios made by chance: SEED makes the same ones again, FOR is how long new ones
# are begun. HUNT=name,name has them look for defects of the gauntlet instead, in a
# mesh with one of them at a time.
SEED ?=
FOR  ?= 5m
HUNT ?=

bin/generated.test: FORCE
	@mkdir -p bin
	$(GO) test -c $(LDFLAGS) -o $@ ./suites/generated

generated: build bin/generated.test
	cd suites/generated && ../../bin/generated.test -ginkgo.no-color -ginkgo.silence-skips -ginkgo.timeout=6h -for=$(FOR) $(if $(SEED),-seed=$(SEED)) $(if $(HUNT),-defects=$(HUNT)) $(WHERE) $(if $(DIALECT),-dialect=$(DIALECT)) $(ARGS)

# Which rules of the rule book are shown: by a run in each dialect, and by Go
# tests where nothing can be seen from outside. Runs are made once for the
# programs at hand; one that has findings is made again the next time. The last
# line says how many rules are shown.
RULES    := artifacts/rules
DIALECTS := documented linkerd

rules: build $(DIALECTS:%=$(RULES)/%.passed) $(RULES)/tests.json
	@bin/meshproof rules $(DIALECTS:%=--run $(RULES)/%/latest) --tests $(RULES)/tests.json
	@for dialect in $(DIALECTS); do test -e $(RULES)/$$dialect.passed || { echo "$(RULES)/$$dialect/latest/report.html has findings" >&2; exit 1; }; done

# The Go tool touches programs even when nothing has changed; their sums do not
# change then.
$(RULES)/programs: build
	@mkdir -p $(RULES)
	@cd bin && sha256sum meshproof meshproof-agent meshproof-grpcurl grpcurl meshproof-kube > ../$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

# What a run with findings shows is reported all the same.
$(RULES)/%.passed: $(RULES)/programs
	@rm -f $@
	bin/meshproof run --dialect $* --output-dir $(RULES)/$* && touch $@ || test $$? -le 2

$(RULES)/tests.json: $(RULES)/programs FORCE
	bin/meshproof rules --test-command | xargs -d '\n' $(GO) > $@ || echo "tests have failed: see $@"

# Meshes with one bug each, all of which the suite must catch: the last line says
# how many it has. DEFECTS=name,name takes some of them; CLEAN=20 runs the same
# scenarios with the right mesh instead, so often in a row.
DEFECTS ?=
CLEAN   ?=

gauntlet: build
	$(GO) run ./suites/gauntlet $(if $(CLEAN),clean -times $(CLEAN),run) $(if $(DEFECTS),-defects $(DEFECTS))

bin/abuse.test: FORCE
	@mkdir -p bin
	$(GO) test -c $(LDFLAGS) -o $@ ./suites/abuse

# Attacks on the inbound proxy, 80 numbered cases: the last line says how many
# hold. CASES=30,57 tries some of them; cases of the policy plane run Go tests.
# Without it the suite's tests of itself run too.
CASES ?=
comma := ,

abuse: bin/meshproof-standalone bin/abuse.test
	cd suites/abuse && ../../bin/abuse.test -program=../../$< -test.timeout=20m \
		$(if $(CASES),-test.run='^TestAbuse$$/^0?($(subst $(comma),|,$(CASES)))$$',-test.skip='^TestH2spec$$') $(ARGS)

# The inbound proxy against the HTTP/2 standard: the last line says how many of
# h2spec's tests have passed.
h2spec: bin/meshproof-standalone bin/abuse.test
	cd suites/abuse && ../../bin/abuse.test -program=../../$< -test.run='^TestH2spec$$' $(ARGS)

# Native fuzz targets, one after the other, FOR each: the last line says how many
# ran clean. ONLY=FuzzRead,FuzzChunks takes some of them.
fuzz:
	@$(GO) run ./suites/fuzz -for $(FOR) $(if $(ONLY),-only $(ONLY)) $(ARGS)

# What takes long, in about so much time: transitions, faults, generated scenarios
# with a soak, and the comparison with the last night that passed.
nightly: build
	bin/meshproof nightly --for $(if $(filter file,$(origin FOR)),30m,$(FOR)) $(if $(SEED),--seed $(SEED)) $(WHERE:-%=--%) $(ARGS)

# The proxy as a process of its own where nothing redirects to it, for what attacks
# or measures it from outside.
bin/meshproof-standalone: FORCE
	@mkdir -p bin
	$(GO) build $(TAGS) $(LDFLAGS) -o $@ ./internal/proxytest/standalone
bin/meshproof-standalone: TAGS := -tags grpcnotrace

# The proxy side by side with nginx, haproxy, Go's ReverseProxy and, where it is
# installed, Envoy: ROUNDS rounds of FOR for each load. ONLY=http1,frames takes some
# of the loads. The table is artifacts/bench.md, too. ARGS=-profiles takes profiles of
# the hot paths instead.
ROUNDS ?= 5
ONLY   ?=

bin/bench: FORCE
	@mkdir -p bin
	$(GO) build $(LDFLAGS) -o $@ ./suites/bench

bench: build bin/bench bin/meshproof-standalone
	bin/bench -rounds $(ROUNDS) -for $(if $(filter file,$(origin FOR)),1s,$(FOR)) $(if $(ONLY),-only $(ONLY)) -out $(or $(ARTIFACTS),artifacts) $(ARGS)

# What every kind of cluster is counted on for, as a suite of e2e-framework.
bin/clusters.test: FORCE
	@mkdir -p bin
	$(GO) test -c $(LDFLAGS) -o $@ ./suites/clusters

clusters: build bin/clusters.test
	cd suites/clusters && ../../bin/clusters.test -test.v $(WHERE) $(ARGS)

test: vet unit smoke

vet:
	$(GO) vet ./...
	$(GO) -C cmd/meshproof-kube vet ./...

# Unit and integration tests of both modules. The suites are not among them:
# they are what `make e2e` runs. Whether every defect still applies is, whether
# every fuzz target is known, and what steadily holds of the benchmarks.
unit: build
	$(GO) test $$($(GO) list ./... | grep -v /suites/) ./suites/gauntlet ./suites/fuzz ./suites/bench/...
	$(GO) -C cmd/meshproof-kube test ./...

# A short run on the embedded cluster, through the command line.
smoke: build
	bin/meshproof run --label-filter smoke

clean:
	rm -rf bin artifacts
