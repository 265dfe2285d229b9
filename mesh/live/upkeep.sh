# What history, rollback and prune ask of a host, after host.sh and with its settings.

history() { # LINES: the last lines of the journal
    cat "$root/journal.jsonl.1" "$root/journal.jsonl" 2>/dev/null | tail -n "$1" | sed 's/^/journal /'
    echo end
}

releases() { # all of the journal, and what is recorded of the releases that run and of those before them
    for file in "$root"/stacks/*/.release.json "$root"/previous/*/.release.json; do
        [ -f "$file" ] || continue
        name=${file%/.release.json}
        kind=${name%/*}
        printf '%s %s ' "${kind##*/}" "${name##*/}"
        tr -d '\n' <"$file"
        echo
    done
    "$docker" image ls --all --quiet --no-trunc | sed 's/^/image /'
    history +1
}

# pruning: a line is `image ID BYTES NAME`, `network ID PROJECT NAME` or `files PATH`

prunable() { # MESH DAYS: what is the mesh's own and nobody needs
    theirs=$("$docker" ps -aq --no-trunc) || fail "docker does not say which containers there are"
    unneeded_images
    unneeded_networks "$1"
    for each in "$root"/previous/*.extra; do
        [ -d "$each" ] && [ -n "$(find "$each" -prune -mtime "+$2")" ] && printf 'files %s\n' "$each"
    done
    return 0
}

unneeded_images() { # those that releases recorded, and neither a release that runs, nor the one before it, nor any container uses
    [ -s "$root/images" ] || return 0
    needed=$(
        for each in "$root"/stacks/* "$root"/previous/*; do
            [ ! -f "$each/.release.json" ] || images_of "$each"
        done
        # shellcheck disable=SC2086
        [ -z "$theirs" ] || "$docker" inspect --type container --format '{{.Image}}' $theirs
    )
    set --
    # shellcheck disable=SC2013
    for id in $(sort -u "$root/images"); do
        case $needed in
        *"$id"*) ;;
        *) set -- "$@" "$id" ;;
        esac
    done
    [ $# -gt 0 ] || return 0
    "$docker" image inspect --format '{{.Id}} {{.Size}}{{range .RepoTags}} {{.}}{{end}}{{range .RepoDigests}} {{.}}{{end}}' "$@" 2>/dev/null |
        while read -r id size names; do
            [ -n "$size" ] && one_name "$names" && printf 'image %s %s %s\n' "$id" "$size" "${names%% *}"
        done
}

one_name() { # NAMES: whether they are one tag or one digest or both, of one repository: more were given by somebody else
    repository='' tags=0
    for name in $1; do
        case $name in
        *@*) own=${name%@*} ;;
        *) own=${name%:*} tags=$((tags + 1)) ;;
        esac
        [ "${repository:-$own}" = "$own" ] && [ $tags -le 1 ] || return 1
        repository=$own
    done
}

unneeded_networks() { # MESH: of stacks that it had here, and of which no container and no release is left
    for each in "$root"/previous/*; do
        project=${each##*/}
        if [ -e "$root/stacks/$project/compose.yaml" ] || ! grep -q "\"mesh\": \"$1\"" "$each/.release.json" 2>/dev/null; then continue; fi
        [ -z "$("$docker" ps -aq --filter "label=com.docker.compose.project=$project")" ] || continue
        for id in $("$docker" network ls -q --no-trunc --filter "label=com.docker.compose.project=$project"); do
            [ -z "$("$docker" ps -aq --filter "network=$id")" ] || continue
            printf 'network %s %s %s\n' "$id" "$project" "$("$docker" network inspect --format '{{.Name}}' "$id")"
        done
    done
}

prune() { # HOLDER MESH DAYS JOURNAL-HEAD; lines of `prunable` on stdin: those that are still there go
    take_lock "" "$1" prune
    begin
    trap 'kill $beating; [ ! -d "$lock" ] || drop_lock "$(unfinished "$lock")"' EXIT
    log=$lock/log.prune
    cat >"$lock/confirmed"
    prunable "$2" "$3" >"$lock/prunable"
    grep -xF -f "$lock/confirmed" "$lock/prunable" >"$lock/doomed"
    gone=0
    while read -r kind id rest; do
        : >"$log"
        case $kind in
        image) quietly "$docker" image rm --no-prune "$id" ;;
        network) quietly "$docker" network rm "$id" ;;
        files) rm -rf "$id" ;;
        esac || {
            printf 'kept %s %s: %s\n' "$kind" "${rest:-$id}" "$(tail -n 1 "$log")"
            continue
        }
        gone=$((gone + 1))
    done <"$lock/doomed"
    drop_lock "${4%?},\"removed\":$gone}"
    printf 'removed %s\n' "$gone"
}
