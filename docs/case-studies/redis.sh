#!/bin/sh
# A server that syncs its log after each command, under load.
# redis.sh FOLDER [FORKTRACE [PORT]]: leaves the report, the trace and what the server says in FOLDER.
set -eu
mkdir -p "$1/data"
folder=$(realpath "$1")
port=${3:-7391}
"${2:-forktrace}" run --save "$folder/redis.ft" -o "$folder/report.txt" -- \
    redis-server --port $port --bind 127.0.0.1 --dir "$folder/data" --save "" \
    --appendonly yes --appendfsync always --latency-monitor-threshold 1 --daemonize no \
    >"$folder/redis.log" &
until redis-cli -p $port ping 2>&1 | grep -q PONG; do kill -0 $!; sleep 0.05; done
redis-benchmark -p $port -q -n 4000 -c 10 -t set | tr '\r' '\n' | grep 'per second' | tail -1 >"$folder/benchmark.txt"
redis-cli -p $port info commandstats >"$folder/commandstats.txt"
redis-cli -p $port latency latest >"$folder/latency.txt"
redis-cli -p $port shutdown nosave
wait
