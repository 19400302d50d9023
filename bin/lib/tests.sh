# Sourced, after checkout.sh. run_tests runs pytest as bin/test and bin/check do.

# CI's machines stall for seconds, and a test that waits for real processes then fails although nothing is wrong. So in
# CI what failed is run once more, alone; what fails again is a failure. Never more than this many: a fault that makes
# many tests fail now and then is not noise. On a desk nothing is run twice.
second_chances_max=5

run_tests() { # pytest's arguments...
    [ -z "${CI-}" ] || rm -f .pytest_cache/v/cache/lastfailed
    "$python" -P -m pytest -q "$@"
    status=$?
    [ $status = 1 ] && [ -n "${CI-}" ] || return $status
    failed=$("$python" -P -c 'import json; print(*json.load(open(".pytest_cache/v/cache/lastfailed")), sep="\n")') || return 1
    count=$(printf '%s\n' "$failed" | wc -l)
    [ "$count" -le $second_chances_max ] || return 1
    printf 'farm: a second chance, alone, for:\n%s\n' "$failed"
    "$python" -P -m pytest -q --last-failed --last-failed-no-failures none "$@" || return 1
    printf 'farm: UNSTEADY: failed once and then passed alone:\n%s\n' "$failed"
}
