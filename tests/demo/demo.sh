#!/usr/bin/env bash
# The main job, shown on real programs: `make demo`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
show() { printf '\033[32m$ %s\033[0m\n' "$*"; eval "$*"; }
[[ -t 1 ]] || { say() { printf '\n%s\n' "$*"; }; show() { printf '$ %s\n' "$*"; eval "$*"; }; }

echo "compiling two static programs"
python -m ziglang cc -target "$(uname -m)-linux-musl" -static -O2 -o "$scratch/hello-c" "$here/hello.c"
CGO_ENABLED=0 go build -o "$scratch/hello-go" "$here/hello.go"
cp "$here/test_redis_expiry.py" "$scratch" # on its own, as in somebody else's project
cd "$scratch"
export PYTEST_ADDOPTS="-p no:asyncio" # it is there for other tests, and has something to say without a setting

say "1. The clock stands still, two real seconds pass:"
started=${EPOCHREALTIME/.}
show 'TZ=UTC vdsotime --at 1970-01-01 -- bash -xc "date; sleep 2; date"'
elapsed=$((${EPOCHREALTIME/.} - started))
printf 'That took %d.%02d real seconds.\n' $((elapsed / 1000000)) $((elapsed / 10000 % 100))

say "2. Static programs, in which no library can be replaced:"
show 'vdsotime --at 2038-01-19T03:14:07Z -- ./hello-c'
show 'vdsotime --at 2038-01-19T03:14:07Z -- ./hello-go'

say "3. A test: redis-server forgets a key after five minutes that take a second:"
show "sed -n '/^@pytest.mark/,\$p' test_redis_expiry.py"
show 'pytest -q --no-header -p no:cacheprovider test_redis_expiry.py'
