# `make help` lists the targets.

export CGO_ENABLED := 0
# Go stops where git distrusts the folder, so it may look at git only where that
# works: see BUILD.
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
BUILD := -trimpath $(if $(VERSION),-buildvcs=auto -ldflags '-X main.version=$(VERSION)')

# What touches faults, and so must work when Go runs one thread at a time.
FAULTS := ./internal/uffd/... ./uffdmap/... ./test/cracauer/...

TEST := go test -count=1

.PHONY: lazyfs demo test test-long bench-map bench-store lint setup clean help

lazyfs: ## build bin/lazyfs (the default)
	go build $(BUILD) -o bin/lazyfs ./cmd/lazyfs

demo: lazyfs ## pack, mount, map and change a real file
	test/demo/run

test: setup lint ## run all tests, in under ten minutes
	$(TEST) -timeout 10m ./...
	GORACE=atexit_sleep_ms=0 CGO_ENABLED=1 $(TEST) -race -short -timeout 10m $$(go list ./... | grep -v '/test$$')
	GOMAXPROCS=1 $(TEST) -short -timeout 10m $(FAULTS)

test-long: setup lint ## run the long tests and the fuzz targets too, for an hour or so
	LAZYFS_LONG=1 $(TEST) -timeout 60m ./...
	LAZYFS_LONG=1 GORACE=atexit_sleep_ms=0 CGO_ENABLED=1 $(TEST) -race -timeout 60m $$(go list ./... | grep -v '/test$$')
	LAZYFS_LONG=1 GOMAXPROCS=1 $(TEST) -timeout 60m $(FAULTS)
	test/fuzz 30s

bench-map: ## compare mappings with what the machine can do, in four minutes
	go run ./test/yardstick

bench-store: ## compare stores with the bare codec and disk, and with mksquashfs, in three minutes
	go test -run '^$$' -bench 'Commit|Open|Pack|Sequential|Random' -benchtime 7x ./store

lint: ## check format, go vet and staticcheck
	@bad=$$(gofmt -l .); test -z "$$bad" || { echo "not in gofmt's format:"; echo "$$bad"; exit 1; }
	go vet ./...
	GOARCH=arm64 go vet ./...
	go tool staticcheck ./...

setup: # programs that tests need
	test/setup

clean: ## remove what make built
	rm -rf bin

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 12
