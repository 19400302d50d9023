# Sourced by the recipes. Given $recipes, the directory they are in, find_farm sets $farm, or says what to do and returns 69.

# The checkout's own farm comes first: a recipe belongs to the version that it lies beside.
find_farm() {
    farm=$recipes/../bin/farm
    [ -x "$farm" ] && return
    if farm=$(command -v farm); then return 0; fi
    echo "farm: error: no farm on the PATH, and none beside this recipe" >&2
    echo 'hint: run pip install . in a checkout of farm, or the recipe from there' >&2
    return 69
}
