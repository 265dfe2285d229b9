# Observes a host in one round trip, in POSIX sh; it only reads. Functions only: the last line, which mesh.state.script adds,
# is the one call, so a script cut short does nothing. What to look at comes as data on stdin, one `WORD VALUE` a line.
#
# The same text is installed for a key that may do nothing else (`mesh host trust --read-only`). There `limited` is yes, root,
# docker and mesh are fixed in the file, and nothing outside the mesh's stacks is told: no other file's hash, no hash of a file
# that not everybody may read (secrets), no environment of other projects' containers.

LC_ALL=C
PATH=$PATH:/usr/local/bin:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL PATH
safe='A-Za-z0-9._/@:+,=~%-'

say() { printf '\n%s %s\n' "$b" "$*"; }

hex() { printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n'; }

odd() { # a file whose name is not safe to print: its attributes, the hexadecimal name, its hash
    say odd "$(hex "$1")"
    line=$(ls -ldn -- "$1" | head -n 1)
    printf '%s\n' "$line"
    case $2$limited$line in
    hash-* | hashl* | hashyes-??????r*) sha256sum <"$1" ;;
    esac
}

read_data() { # what to look at. Words with characters beyond $safe come as WORD% with escapes for printf
    b=mesh files= folders= odd_files= odd_folders= refs= boxes= cards= given= projects=
    while IFS= read -r line; do
        key=${line%% *} value=${line#* }
        case $key in
        file% | folder%) case $value in *[!$safe\\]*) continue ;; esac ;;
        *) case $value in *[!$safe]*) continue ;; esac ;;
        esac
        case $key in
        boundary) b=$value ;;
        version) given=$value ;;
        root) [ -n "$limited" ] || root=$value ;;
        docker) [ -n "$limited" ] || docker=$value ;;
        mesh) [ -n "$limited" ] || mesh=$value ;;
        stack) case $value in *[!a-z0-9._-]*) ;; *) [ -n "$limited" ] && ! [ -d "$root/stacks/$value" ] || projects="$projects $value" ;; esac ;;
        file) ! allowed "$value" || files="$files $value" ;;
        folder) ! allowed "$value" || folders="$folders $value" ;;
        file%) odd_files="$odd_files $value" ;;
        folder%) odd_folders="$odd_folders $value" ;;
        image) case $value in -*) ;; *) refs="$refs $value" ;; esac ;;
        box) case $value in -*) ;; *) boxes="$boxes $value" ;; esac ;;
        cards) cards=yes ;;
        esac
    done
}

allowed() { # PATH: anything for the operator; for a limited key what lies in a stack
    [ -n "$limited" ] || return 0
    case $1/ in
    */../*) return 1 ;;
    "$root"/stacks/*) return 0 ;;
    esac
    return 1
}

plain() { # ESCAPED: the path itself, in $path
    path=$(printf '%bx' "$1")
    path=${path%x}
    allowed "$path"
}

containers_template() { # one JSON object a line; details of our own containers only
    ours="(eq (index \$l \"mesh.name\") \"$mesh\")"
    for project in $projects; do ours="$ours (eq \$p \"$project\")"; done
    printf '%s' '{{$l := .Config.Labels}}{{$p := index $l "com.docker.compose.project"}}' \
        '{"id":{{json .ID}},"name":{{json .Name}},"project":{{json $p}}' \
        ',"service":{{json (index $l "com.docker.compose.service")}}' \
        ',"image":{{json .Config.Image}},"state":{{json .State.Status}}' \
        ',"image_id":{{json .Image}}' \
        "{{if or $ours false}}" \
        ',"labels":{{json $l}},"env":{{json .Config.Env}}' \
        ',"health":{{with .State.Health}}{{json .Status}}{{else}}""{{end}}' \
        '{{with .HostConfig}},"memory":{{.Memory}},"swap":{{.MemorySwap}},"cpus":{{.NanoCPUs}},"quota":{{.CPUQuota}}' \
        ',"period":{{.CPUPeriod}},"shares":{{.CPUShares}},"cpuset":{{json .CpusetCpus}},"pids":{{json .PidsLimit}}' \
        ',"restart":{{json .RestartPolicy}},"ports":{{json .PortBindings}},"privileged":{{.Privileged}}' \
        ',"read_only":{{.ReadonlyRootfs}},"cap_add":{{json .CapAdd}},"cap_drop":{{json .CapDrop}}' \
        ',"security":{{json .SecurityOpt}},"network_mode":{{json .NetworkMode}},"pid_mode":{{json .PidMode}}{{end}}' \
        ',"mounts":[{{range .Mounts}}[{{json .Type}},{{json .Name}},{{json .Source}},{{json .Destination}},{{.RW}}],{{end}}0]' \
        ',"networks":[{{range $n, $_ := .NetworkSettings.Networks}}{{json $n}},{{end}}0]' \
        '{{end}}}'
}

observe_docker() { # a container that goes away between ps and inspect is an error of inspect: ask again
    containers=$(containers_template)
    tries=0
    while :; do
        listed=$($docker ps -a --no-trunc --format '{{.ID}}@{{.Image}}' 2>&1) || {
            say failed $?
            printf '%s' "$listed"
            return
        }
        ids= held=
        for word in $listed; do
            case $word in *@*) ids="$ids ${word%%@*}" held="$held ${word#*@}" ;; esac
        done
        say containers
        [ -n "$ids" ] || break
        $docker inspect --type container --format "$containers" $ids 2>/dev/null && break
        tries=$((tries + 1))
        if [ $tries -ge 4 ]; then
            say failed 1
            $docker inspect --type container --format "$containers" $ids 2>&1 >/dev/null
            return
        fi
    done
    # An image by digest that `ps` lists for a container is there, and is what the container was made from: it is not looked up
    # (`ps` shows the image's id in place of a reference that has become another image's, or nobody's).
    set --
    for ref in $refs; do
        case $ref in
        *@sha256:*) case "$held " in *" $ref "*) say held "$ref" && continue ;; esac ;;
        esac
        set -- "$@" "$ref"
    done
    if [ $# -gt 0 ]; then
        say images
        $docker image inspect --format '{"id":{{json .ID}},"tags":{{json .RepoTags}},"digests":{{json .RepoDigests}}}' "$@" 2>/dev/null
    fi
    # Compose is only run where its plugin is in none of the usual places, because it is slow to start
    for dir in ~/.docker /usr/local/lib/docker /usr/local/libexec/docker /usr/lib/docker /usr/libexec/docker; do
        if [ -x "$dir/cli-plugins/docker-compose" ]; then return; fi
    done
    words=$($docker compose version 2>&1) || {
        say lacking compose
        printf '%s' "$words"
    }
}

list_folder() { # its files to $@ of the caller's, by way of $found; odd ones are told at once
    [ -d "$1" ] || return
    if ! [ -r "$1" ] || ! [ -x "$1" ]; then
        say denied "$(hex "$1")"
        return
    fi
    for file in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        [ -f "$file" ] || [ -h "$file" ] || continue
        case $file in
        *[!$safe]*) odd "$file" ;;
        *) found="$found $file" ;;
        esac
    done
}

observe_files() {
    found=
    if [ -f "$root/journal.jsonl" ]; then found=" $root/journal.jsonl"; fi
    for dir in $folders "$root"/stacks/*; do list_folder "$dir"; done
    for escaped in $odd_folders; do ! plain "$escaped" || list_folder "$path"; done
    if [ -n "$found" ]; then
        say files
        ls -ldn $found
    fi
    found=
    for file in $files; do
        [ -f "$file" ] || continue
        if [ -r "$file" ]; then found="$found $file"; else say denied "$(hex "$file")"; fi
    done
    if [ -n "$limited" ] && [ -n "$found" ]; then
        found=$(ls -ldn $found | grep '^-......r' | sed 's|^[^/]*||')
    fi
    if [ -n "$found" ]; then
        say hashes
        sha256sum $found
    fi
    for escaped in $odd_files; do
        plain "$escaped" && [ -f "$path" ] || continue
        if [ -r "$path" ]; then odd "$path" hash; else say denied "$(hex "$path")"; fi
    done
    for file in "$root"/stacks/*/.release.json; do
        [ -f "$file" ] || continue
        stack=${file%/.release.json}
        say release "$(hex "${stack##*/}")"
        cat "$file"
    done
    if [ -d "$root/lock" ]; then
        say lock
        cat "$root/lock/holder" 2>/dev/null
    fi
}

observe_cards() { # only where the spec has cards; a driver that hangs must not hang us
    [ -n "$cards" ] || return 0
    limit=
    if command -v timeout >/dev/null; then limit='timeout 10'; fi
    words=$($limit nvidia-smi @query@ 2>&1)
    say cards $?
    printf '%s\n' "$words"
    for box in $boxes; do
        words=$($limit $docker exec "$box" nvidia-smi -L 2>&1)
        say inside "$? $(hex "$box")"
        printf '%s\n' "$words"
    done
}

observe_names() { # volumes and networks of the engine, and whose they are
    for kind in volume network; do
        words=$($docker $kind ls --format "[\"$kind\",{{json .Name}},{{json (.Label \"com.docker.compose.project\")}}]" 2>&1) || {
            say failed $?
            printf '%s' "$words"
            return
        }
        say names
        printf '%s\n' "$words"
    done
}

observe() { # stdin: what is told about cards and names; it is told meanwhile, and comes last
    exec 3<&0 </dev/null
    observe_files
    observe_docker
    cat <&3
    say end
}

observe_host() { # stdin: the data
    read_data
    if [ -n "$limited" ]; then
        say limited "$version"
        if [ "$given" != "$version" ]; then
            say end
            return
        fi
    fi
    { observe_cards && observe_names; } </dev/null | observe
}
