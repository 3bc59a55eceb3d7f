#!/bin/sh
# Four threads of a JVM that share a monitor, each asleep while it has it.
# jvm.sh FOLDER [FORKTRACE]: leaves the report, the trace and three jstacks in FOLDER.
set -eu
own=$(dirname "$(realpath "$0")")
mkdir -p "$1"
folder=$(realpath "$1")
javac -d "$folder" "$own/Contended.java"
"${2:-forktrace}" run --save "$folder/jvm.ft" -o "$folder/report.txt" -- \
    java -cp "$folder" Contended 8000 &
jvm=
until [ -n "$jvm" ]; do
    kill -0 $!
    sleep 0.2
    jvm=$(jps | awk '$2 == "Contended" { print $1 }' | xargs -rn1 ps -o ppid=,pid= -p |
        awk -v forktrace=$! '$1 == forktrace { print $2 }')
done
for i in 1 2 3; do
    sleep 0.3
    jstack "$jvm" >"$folder/jstack.$i.txt"
done
wait
grep -h -A2 '^"worker-' "$folder"/jstack.?.txt | grep -E '^"|State'
