# After host.sh: puts the folders of adopted stacks in place. Containers are not touched.

adopt() { # HOLDER JOURNAL-LINE, and on stdin what `upload` takes: each folder goes into place in one step, its record in it
    take_lock '' "$1" adopt
    (upload && place_adopted)
    code=$?
    drop_lock "$2"
    exit $code
}

place_adopted() {
    mkdir -p "$root/stacks" || return 1
    for each in "$lock"/new/stacks/*; do
        target=$root/stacks/${each##*/}
        [ ! -d "$each/secrets" ] || chmod 700 "$each/secrets" || return 1
        if [ -e "$target/.release.json" ]; then # of an adoption that was cut short: the spec does not know it
            mv "$target" "$lock/old.${each##*/}" || return 1
        fi
        [ ! -e "$target" ] || fail "$target is there already"
        mv "$each" "$target" || return 1
    done
}
