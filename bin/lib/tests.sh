# Sourced, after checkout.sh: pytest as bin/test and bin/check run it. run_tests runs what its arguments pick, one after
# the other; run_marked runs all tests that a marker expression picks, several at once.

# Most of the tests' time is waiting for processes and for clocks. With more than this two cores are no faster, and what
# is in time on a quiet machine gets late. A file's tests stay together (loadfile), for they share servers.
tests_at_once=3

# Where this is set, each process that runs tests compiles all of them again: six seconds.
unset PYTHONDONTWRITEBYTECODE

# CI's machines stall for seconds, and a test that waits for real processes then fails although nothing is wrong. So in
# CI what failed is run once more, alone; what fails again is a failure. Never more than this many: a fault that makes
# many tests fail now and then is not noise. On a desk nothing is run twice.
second_chances_max=5

run_tests() { # pytest's arguments...
    with_second_chance once "$@"
}

run_marked() { # a marker expression
    with_second_chance side_by_side -m "$1"
}

once() { "$python" -P -m pytest -q "$@"; }

# What measures time is marked `alone`: it comes afterwards, with nothing beside it. pytest's statuses: 1 is a test that
# failed, 5 that there was none, which counts only if it is so of both.
side_by_side() { # -m, a marker expression
    once -m "($2) and not alone" --numprocesses $tests_at_once --dist loadfile
    beside=$?
    case $beside in [015]) ;; *) return $beside ;; esac
    once -m "($2) and alone"
    alone=$?
    [ $alone = 5 ] && return $beside
    [ $alone = 0 ] && [ $beside = 1 ] && return 1
    return $alone
}

with_second_chance() { # how it is run the first time, pytest's arguments...
    how=$1
    shift
    [ -z "${CI-}" ] || rm -f .pytest_cache/v/cache/lastfailed
    $how "$@"
    status=$?
    [ $status = 1 ] && [ -n "${CI-}" ] || return $status
    failed=$("$python" -P -c 'import json; print(*json.load(open(".pytest_cache/v/cache/lastfailed")), sep="\n")') || return 1
    count=$(printf '%s\n' "$failed" | wc -l)
    [ "$count" -le $second_chances_max ] || return 1
    printf 'farm: a second chance, alone, for:\n%s\n' "$failed"
    once --last-failed --last-failed-no-failures none "$@" || return 1
    printf 'farm: UNSTEADY: failed once and then passed alone:\n%s\n' "$failed"
}
