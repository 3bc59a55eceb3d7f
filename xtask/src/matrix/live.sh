# Runs the live tests one by one, each in a process of its own: one that is
# stuck is killed after LIMIT seconds and named, and the rest go on. The lines
# that begin with GUEST- are for xtask.
export FORKTRACE_BIN=/t/forktrace
export FORKTRACE_TESTS_LACK='a real CPU,python3,perf,strace,redis-server,initdb,java'
LIMIT=900
tests=$(/t/live --list --format terse $(cat /t/filters) | sed -n 's/: test$//p')
echo "GUEST-TESTS $(echo "$tests" | wc -w)"
result=0
for test in $tests; do
    echo "GUEST-TEST $test"
    begin=$(date +%s)
    timeout -s KILL $LIMIT /t/live --exact "$test" --show-output
    status=$?
    echo
    echo "GUEST-RESULT $status $(($(date +%s) - begin))"
    if [ $status != 0 ]; then
        result=1
        # What it left behind: all but this shell and the guest's first process.
        kill -9 -1
    fi
done
exit $result
