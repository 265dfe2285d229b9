# What apply does on a host, in POSIX sh. It comes to `sh -s` on stdin, after these settings and before one call:
#   root    the tool's folder          docker  the docker command
#   run     identity of this apply     stale   minutes without a sign of life after which a lock is abandoned
#   beat    seconds between two such signs
# Nothing is on a command line but `sh -s -- mesh-RUN`, which is how a later run recognises what a killed one left running.

set -u
umask 022
LC_ALL=C
PATH=$PATH:/usr/local/bin:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL PATH
lock=$root/lock
child=

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

full() { # says so where the disk of the tool's folder is
    df -Pk "$root" 2>/dev/null | tail -n 1 | {
        read -r _ _ _ free _ && [ "$free" -lt 100 ] 2>/dev/null && printf ': its disk is full'
    }
}

# the lock

holder() { cat "$1/holder" 2>/dev/null; }

abandoned() { # a lock without a sign of life for $stale minutes; one that is just being made counts by its own age
    sign=$1/beat
    [ -e "$sign" ] || sign=$1
    [ -z "$(find "$sign" -prune -mmin "+$stale" 2>/dev/null)" ] || return 0
    ahead "$sign" || return 1
    sleep $((beat * 3)) # a living run gives its next sign by then, by the clock as it is now
    ahead "$sign"
}

ahead() { # FILE: it is of a time that has not come yet: the host's clock was set back since
    touch "$root/now.$run" && found=$(find "$1" -prune -newer "$root/now.$run" 2>/dev/null)
    rm -f "$root/now.$run"
    [ -n "$found" ]
}

stop_leftovers() { # end what a killed run left working, so that two runs never work at the same time
    was=$(holder "$1")
    for file in "$1"/pid.*; do
        [ -e "$file" ] || continue
        pid=${file##*.}
        tries=0
        while tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q "mesh-${was%% *}"; do
            [ $tries -lt 30 ] || kill -9 "$pid"
            [ $tries -gt 0 ] || kill "$pid"
            tries=$((tries + 1))
            sleep 1
        done
    done
}

take_lock() { # DEAD-RUN-OR-EMPTY HOLDER [VERB [BYTES]]: the first word of HOLDER is the run; BYTES of the journal when it looked
    size=$({ wc -c <"$root/journal.jsonl"; } 2>/dev/null)
    mkdir -p "$root" || fail "cannot make $root"
    if ! said=$(mkdir -m 700 "$lock" 2>&1); then
        [ -d "$lock" ] || fail "cannot write to $root$(full) ($said)"
        was=$(holder "$lock")
        if [ "${was%% *}" != "${1:-nobody}" ] && ! abandoned "$lock"; then
            fail "locked by another apply: ${was:-unknown}"
        fi
        mv "$lock" "$lock.$run" 2>/dev/null || fail "somebody else takes over the abandoned lock"
        if [ "$(holder "$lock.$run")" != "$was" ]; then
            mv "$lock.$run" "$lock"
            fail "somebody else has taken over the abandoned lock"
        fi
        stop_leftovers "$lock.$run"
        settle "$lock.$run" "$(unfinished "$lock.$run")"
        rm -rf "$lock.$run"
        mkdir -m 700 "$lock" 2>/dev/null || fail "somebody else was quicker"
        printf 'took over the lock of an apply that died: %s\n' "$was"
    fi
    if [ "${4:-$((size))}" != "$((size))" ]; then
        rm -rf "$lock"
        fail "another run has ended here since this one looked: $(sed -n '$s/.*"at": *"\([^"]*\)", *"by": *"\([^"]*\)".*/\2 at \1/p' "$root/journal.jsonl"); apply again"
    fi
    { printf '%s\n' "$2" >"$lock/holder" && printf '%s\n' "${3:-apply}" >"$lock/verb" && touch "$lock/beat"; } 2>/dev/null || {
        rm -rf "$lock"
        fail "cannot write to $root$(full)"
    }
}

drop_lock() { # JOURNAL-HEAD: ends this run
    settle "$lock" "$1"
    rm -rf "$lock"
}

abort() { # ends this run from outside, whatever it is doing
    was=$(holder "$lock")
    [ "${was%% *}" = "$run" ] || return 0
    stop_leftovers "$lock"
    drop_lock "$(unfinished "$lock")"
    echo released
}

# the journal: a line a run, closed with what became of each stack; journal.jsonl.1 holds the lines before, up to as many again

unfinished() { # LOCK: the journal head of a run that did not come to its end
    # shellcheck disable=SC2046
    set -- "$(cat "$1/verb" 2>/dev/null)" $(holder "$1" | tr -d '"\134') # a backslash
    printf '{"run":"%s","at":"%s","by":"%s","verb":"%s","finished":false}' "${2:-}" "${5:-}" "${3:-}" "${1:-apply}"
}

settle() { # LOCK JOURNAL-HEAD: what a run leaves behind
    for each in "$1"/new/work/*; do # previous/ is what ran before: neither the release that runs, nor one that did not come up
        [ -d "$each" ] || continue
        kept=$root/previous/${each##*/}
        [ "$(release_of "$kept")" = "$(release_of "$root/stacks/${each##*/}")" ] || continue
        rm -rf "$kept"
        [ ! -d "$1/before/${each##*/}" ] || mv "$1/before/${each##*/}" "$kept"
    done
    [ ! -s "$root/images" ] || { sort -u "$root/images" >"$root/images.new" && mv -f "$root/images.new" "$root/images"; }
    if [ -n "$(find "$root/journal.jsonl" -prune -size +1000 2>/dev/null)" ]; then # of 512 bytes
        mv -f "$root/journal.jsonl" "$root/journal.jsonl.1"
    fi
    [ -z "$(tail -c 1 "$root/journal.jsonl" 2>/dev/null)" ] || echo >>"$root/journal.jsonl" # a line that a full disk cut short
    printf '%s,"stacks":{%s}}\n' "${2%?}" "$(cat "$1"/result.* 2>/dev/null | tr '\n' ',' | sed 's/,$//')" >>"$root/journal.jsonl"
}

release_of() { # FOLDER: the identity of the release that is recorded there
    [ -f "$1/.release.json" ] && sed -n '1s/.*"release": "\([0-9a-f]*\)".*/\1/p' "$1/.release.json"
}

now() { # hundredths of a second since the host started: a clock that nobody sets
    IFS=' .' read -r whole part _ </proc/uptime && echo "$whole$part"
}

took() { # seconds since $start
    hundredths=$(($(now) - start))
    printf '%d.%02d' $((hundredths / 100)) $((hundredths % 100))
}

result() { # WORD: what became of the stack, for the journal
    printf '"%s":{"result":"%s","seconds":%s,"from":"%s","to":"%s"}\n' "$stack" "$1" "$(took)" "$was" "$wanted" >"$lock/result.$stack"
}

begin() { # every command but the two above starts here
    was=$(holder "$lock")
    [ "${was%% *}" = "$run" ] || fail "this run has lost the lock of the host to: ${was:-nobody}"
    touch "$lock/beat" "$lock/pid.$$"
    (while sleep "$beat" && kill -0 $$; do touch "$lock/beat"; done) >/dev/null 2>&1 </dev/null &
    beating=$!
    trap 'kill $beating; rm -f "$lock/pid.$$"' EXIT
    trap '[ -z "$child" ] || kill "$child"; exit 143' TERM HUP INT
}

quietly() { # run in the background and wait, so that a signal is heard at once; output goes to $log
    "$@" >>"$log" 2>&1 </dev/null &
    child=$!
    wait "$child"
    code=$?
    child=
    return $code
}

# images and files

pull() { # IMAGE
    begin
    log=$lock/pull.$$
    quietly "$docker" pull --quiet "$1" || {
        tail -n 5 "$log" >&2
        exit 1
    }
    "$docker" image inspect --format '{{.Id}}' "$1" >>"$root/images"
}

upload() { # a tar in base64 on stdin: new/stacks/STACK/... and new/work/STACK/{keep,stale,extra,release}
    begin
    rm -rf "$lock/new"
    mkdir -m 700 "$lock/new" || fail "cannot write to $lock$(full)"
    base64 -d | tar -xpf - -C "$lock" || fail "the files could not be unpacked in $lock/new$(full)"
}

every() { # LIST FUNCTION: the function for each line of the list
    [ -s "$1" ] || return 0
    while IFS= read -r line || [ -n "$line" ]; do
        "$2" "$line" || return 1
    done <"$1"
}

folder_of() { # PATH: makes its folder in $into
    case $1 in
    */*) mkdir -p "$into/${1%/*}" || return 1 ;;
    esac
    case $1 in
    secrets/*) chmod 700 "$into/secrets" ;;
    esac
}

copy() { # PATH from $from to $into, in one step
    [ -f "$from/$1" ] || return 0
    folder_of "$1" && cp -p "$from/$1" "$into/.mesh-new" && place "$into/.mesh-new" "$into/$1"
}

place() { # FILE TARGET: a folder that Docker made for a bind mount without a source gives way, and so does a link
    [ -h "$2" ] && rm -f "$2"
    [ -d "$2" ] && { rmdir "$2" || return 1; }
    mv -f "$1" "$2"
}

move() { # PATH from $from to $into
    [ -f "$from/$1" ] || [ -h "$from/$1" ] || return 0
    folder_of "$1" && place "$from/$1" "$into/$1"
}

drop() { # PATH in $into; what cannot go is not in the way of the others
    rm -f "$into/$1" || :
}

restore() { # PATH from $from to $into: on a full disk too, and where the file cannot be replaced and need not be
    copy "$1" 2>/dev/null ||
        { ln -f "$from/$1" "$into/.mesh-new" && place "$into/.mesh-new" "$into/$1"; } 2>/dev/null ||
        cmp -s "$from/$1" "$into/$1"
}

activate() { # the release that ran goes to previous/, the new files take its place
    [ -d "$new" ] || [ -s "$work/stale" ] || return 0
    if [ -f "$dir/.release.json" ]; then # only a release that was up is worth keeping
        images_of "$dir" >>"$root/images"
        rm -rf "$previous.new"
        mkdir -p "$root/previous" && mkdir -m 700 "$previous.new" || return 1
        from=$dir into=$previous.new
        every "$work/keep" copy && copy .release.json || return 1
        if [ -d "$previous" ]; then
            mkdir -p "$lock/before" && rm -rf "$lock/before/$stack" && mv "$previous" "$lock/before/$stack" || return 1
        fi
        mv "$previous.new" "$previous" || return 1
        rm -f "$dir/.release.json"
    fi
    activated=yes
    mkdir -p "$dir" || return 1
    from=$dir into=$root/previous/$stack.extra
    if [ -s "$work/stale" ]; then
        mkdir -p "$into" && chmod 700 "$into" && every "$work/stale" move || return 1
    fi
    [ -d "$new" ] || return 0
    (cd "$new" && find . -type f) | sed 's|^\./||' >"$work/new"
    from=$new into=$dir
    every "$work/new" move
}

# stacks

compose() {
    quietly "$docker" compose --ansi never --project-name "$stack" --project-directory "$dir" --file "$dir/compose.yaml" "$@"
}

engine_is_back() { # a daemon that restarts is waited for: nothing can be brought back without it
    tries=0
    until "$docker" version >/dev/null 2>&1; do
        [ $tries -lt 60 ] || return 1
        tries=$((tries + 1))
        sleep 1
    done
    [ $tries = 0 ] || printf 'the Docker daemon was away for %s s\n' "$tries"
}

containers() { "$docker" ps -aq --no-trunc --filter "label=com.docker.compose.project=$stack"; }

up_and_wait() { # SECONDS [SERVICE...]: the services are made anew although Compose sees no difference
    seconds=$1
    shift
    if rolls; then
        roll "$@" || return 1
    elif [ $# -gt 0 ]; then
        compose up --detach --no-deps --force-recreate "$@" || return 1
    fi
    compose up --detach --remove-orphans --wait --wait-timeout "$seconds"
}

# rolling: work/rolling holds the service before the others with its switch on the first line, the others below

container_of() { # SERVICE: its running container
    "$docker" ps -q --filter "label=com.docker.compose.project=$stack" --filter "label=com.docker.compose.service=$1" | head -n 1
}

service_state() { # SERVICE: running, or running/healthy, or nothing
    id=$(container_of "$1") && [ -n "$id" ] &&
        "$docker" inspect --format '{{.State.Status}}{{with .State.Health}}/{{.Status}}{{end}}' "$id"
}

rolls() { # whether its services are changed one after the other: where nothing stands before them yet, nothing is lost
    [ -s "$work/rolling" ] || return 1
    read -r before _ <"$work/rolling"
    grep -q "^  $before:" "$dir/compose.yaml" && [ -n "$(service_state "$before")" ]
}

rolling() { # the services to change; the ones that do not serve come first
    for wanted in no yes; do
        sed 1d "$work/rolling" | while read -r each; do
            serves=no
            [ "$(service_state "$each")" != running/healthy ] || serves=yes
            [ $serves != $wanted ] || echo "$each"
        done
    done
}

switch() { # drain|ready SERVICE
    # shellcheck disable=SC2046
    compose exec -T $(head -n 1 "$work/rolling") "$@"
}

roll() { # [SERVICE...]: as above, and the others are not touched while one is made anew
    for each in $(rolling); do
        again=
        for name in "$@"; do
            [ "$name" != "$each" ] || again=--force-recreate
        done
        switch drain "$each" || echo "$each was not drained" >>"$log"
        case $(service_state "$each") in
        '' | running/healthy) ;;
        *) quietly "$docker" stop -t 10 "$(container_of "$each")" ;; # nobody is served: one that just starts may be deaf to a stop
        esac
        # shellcheck disable=SC2086
        compose up --detach --no-deps --wait --wait-timeout "$seconds" $again "$each" && switch ready "$each" || return 1
    done
    for name in "$@"; do
        grep -q "^$name\$" "$work/rolling" || compose up --detach --no-deps --force-recreate "$name" || return 1
    done
}

record() { # .release.json, from what runs now: the identity is on its first line, what only this host knows at its end
    ids=$(containers) || return 1
    [ -n "$ids" ] || return 1
    # shellcheck disable=SC2016,SC2086
    {
        cat "$work/release"
        "$docker" inspect --format '{{$l := .Config.Labels}}{{json (index $l "com.docker.compose.service")}}:{"digest":{{json (index $l "mesh.digest")}},"config_hash":{{json (index $l "com.docker.compose.config-hash")}},"image_id":{{json .Image}}}' $ids |
            sed '/^$/d' | sed '$!s/$/,/'
        printf '},"seconds":%s%s}\n' "$(took)" "$(cat "$work/rolled_back" 2>/dev/null)"
    } >"$dir/.release.json.new" && mv -f "$dir/.release.json.new" "$dir/.release.json"
}

images_of() { # FOLDER: ids of the images of the release that is recorded there
    sed -n 's/.*"image_id":"\(sha256:[0-9a-f]*\)".*/\1/p' "$1/.release.json"
}

explain() { # what Compose said, and the last words of the containers that are not well
    grep -v -E '^ (Container|Network|Volume) .* (Creating|Created|Recreate|Recreated|Starting|Started|Waiting|Running|Healthy) *$' "$log" | tail -n 6
    for id in $(containers); do
        state=$("$docker" inspect --format '{{.Name}} {{.State.Status}} {{with .State.Health}}{{.Status}}{{end}} {{.State.ExitCode}}' "$id")
        case $state in
        *" running healthy "* | *" running  "* | *" exited  0") continue ;;
        esac
        printf -- '-- last lines of %s\n' "$state"
        "$docker" logs --tail 15 "$id" 2>&1
    done
}

at() { # STACK: where its things are
    stack=$1
    dir=$root/stacks/$stack
    new=$lock/new/stacks/$stack
    work=$lock/new/work/$stack
    previous=$root/previous/$stack
    log=$lock/log.$stack
    activated=no # whether the files in place are of a release that has not been up yet
    [ -f "$dir/.release.json" ] || activated=yes
    start=$(now)
    was=$(release_of "$dir")
    wanted=$(sed -n '1s/.*"release": "\([0-9a-f]*\)".*/\1/p' "$work/release" 2>/dev/null)
}

remove_container() { quietly "$docker" rm --force "$1"; }

end() { # WORD: the outcome is the last line, because not every way of running this tells the exit code
    result "$1"
    printf '@%s\n' "$1"
    [ "$1" = up ]
    exit
}

up() { # STACK SECONDS [SERVICE...]: ends as up, back (the release that ran runs again), stopped (there was none) or failed (nothing new was tried)
    begin
    at "$1"
    shift
    bring_up "$@"
}

bring_up() { # SECONDS [SERVICE...]
    result interrupted
    if ! activate; then
        printf 'its files could not be put in place%s\n' "$(full)"
        back "$@"
    fi
    if every "$work/extra" remove_container && up_and_wait "$@"; then
        record && end up
        printf 'it came up, and its release could not be recorded in %s%s\n' "$dir" "$(full)"
    fi
    engine_is_back
    explain
    back "$@"
}

revert() { # STACK SECONDS RELEASE: to its previous release, which has to be that one; what ran is the previous one then. Ends as up
    begin
    at "$1"
    if [ "$(release_of "$previous")" != "$3" ]; then
        printf 'its previous release is not %s any more\n' "$3"
        end failed
    fi
    head -n 1 "$previous/.release.json" >"$work/release" && wanted=$3
    files_of_previous >"$work/back"
    grep -vxF -f "$work/back" "$work/keep" >"$work/stale"
    from=$previous into=$new
    { mkdir -p "$new" && every "$work/back" copy; } || end failed
    bring_up "$2"
}

files_of_previous() {
    (cd "$previous" && find . -type f) | sed 's|^\./||' | grep -v '^\.release\.json$'
}

restore_all() { # nothing has to be written for it but the files: the disk may be full
    files_of_previous | {
        whole=0
        while IFS= read -r line; do
            restore "$line" || whole=1
        done
        return $whole
    }
}

rollback() { # STACK SECONDS: for a stack that is up and does not answer
    begin
    at "$1"
    shift
    if [ -e "$work/new" ]; then
        activated=yes
        was=$(release_of "$previous")
    fi
    explain
    back "$1"
}

back() { # SECONDS: to the previous release; a stack that never had one is stopped
    [ "$activated" = yes ] || end failed
    rm -f "$dir/.release.json"
    into=$dir
    if [ -f "$previous/.release.json" ]; then
        every "$work/new" drop
        from=$previous
        if restore_all && up_and_wait "$1" && restore .release.json; then
            end back
        fi
        printf -- '-- the previous release does not come up either\n'
        explain
        if rolls && [ "$(rolling | while read -r each; do service_state "$each"; done | grep -c '^running/healthy$')" != 0 ]; then
            end failed # what still serves is left to serve
        fi
    fi
    compose stop
    end stopped
}

down() { # STACK: containers and networks go, volumes and data stay
    begin
    at "$1"
    result interrupted
    if [ -f "$dir/compose.yaml" ]; then
        compose down --remove-orphans
    elif [ -n "$(containers)" ]; then
        quietly "$docker" compose --ansi never --project-name "$stack" down --remove-orphans
    fi || {
        result failed
        tail -n 6 "$log"
        exit 1
    }
    every "$work/extra" remove_container
    [ ! -f "$dir/.release.json" ] || images_of "$dir" >>"$root/images"
    rm -rf "$previous"
    mkdir -p "$root/previous" && mkdir -m 700 "$previous" || exit 1
    from=$dir into=$previous
    every "$work/keep" move && move .release.json || exit 1
    rmdir "$dir/secrets" "$dir" 2>/dev/null
    result down
}
