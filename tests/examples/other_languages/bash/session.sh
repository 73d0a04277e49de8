#!/usr/bin/env bash
# A session in redis lasts for 30 days.
set -euo pipefail

directory=$(mktemp -d)
trap 'kill "$server"; wait "$server"; rm -r "$directory"' EXIT
redis-server --port 0 --unixsocket "$directory/redis" --dir "$directory" >/dev/null &
server=$!

redis() { redis-cli -s "$directory/redis" "$@" 2>/dev/null; }
until redis PING; do sleep 0.01; done

clock() {
  curl -sS --fail-with-body --unix-socket "${VDSOTIME_CONTROL#unix:}" "http://clock/$1" -d "$2"
}

redis SET session alice EX $((30 * 24 * 3600))
clock jump '{"days": 29}'
[[ $(redis GET session) == alice ]] || { echo "the session has ended early" >&2; exit 1; }

clock jump '{"days": 1, "seconds": 1}'
[[ $(redis GET session) == "" ]] || { echo "the session goes on" >&2; exit 1; }
echo "the session has ended"
